"""Faults found in other systems, each as a test that such a fault would fail.

F1 to F7 were found in Flower's SecAgg+, L1 to L3 in Fed-BioMed's LOM; the last in NVFlare's registration.
"""

import hashlib
from dataclasses import fields

import numpy as np
import pytest

from secure_agg import keys, messages
from secure_agg.errors import SecureAggregationError
from secure_agg.masks import MaskStream
from tests.secure_agg.cohort import MODEL_HASH, Cohort, identity_of, name_of, plan_of, update_of, weight_of
from tests.secure_agg.hostile import Hostile

A, B, C, D = NAMES = tuple(name_of(index) for index in range(4))
CONSTANT = {"w": np.zeros(3, np.float32)}


def refused(code, call, *arguments):
    with pytest.raises(SecureAggregationError) as error:
        call(*arguments)
    assert error.value.code == code


def seeds_of(cohort, name):
    round_ = cohort.clients[name]._round
    return [round_._b, *round_._seeds.values()]


def test_f1_seeds_have_256_bits_in_use():
    """Flower folded a seed to 32 bits, of which at most 28 varied."""
    cohort, every, none = Cohort(4), 0, (1 << 256) - 1
    for number in range(1, 9):
        cohort.begin(number, plan=plan_of(4, context=keys.digest("order", bytes([number]))))
        for name in NAMES:
            cohort.upload(name)
            for seed in seeds_of(cohort, name):
                every, none = every | int.from_bytes(seed), none & int.from_bytes(seed)
    assert every == (1 << 256) - 1
    assert none == 0
    streams = set()
    for bit in range(256):
        seed = (int.from_bytes(seeds_of(cohort, A)[0]) ^ 1 << bit).to_bytes(32)
        streams.add(MaskStream(seed).take(64).tobytes())
    assert len(streams) == 256


def test_f2_a_site_is_never_alive_and_dropped_at_once(watch):
    """Flower's client gave both kinds of shares of a site that stood in both lists."""
    oracle, hostile = watch(NAMES), Hostile(Cohort(4))
    hostile.run_to_upload()
    signed = hostile.sign_all((A, B, C))
    hostile.reveal(A, signed)
    hostile.reveal(B, signed)
    for silent in ((C, D), (D,), (B, C, D)):  # D dropped: its own seed and its seeds with survivors are asked
        refused("E_RECOVER_SCOPE", hostile.recover, A, signed, silent)
    assert {site for site, _ in hostile.recover(B, signed, (C,)).shares} == {2}
    oracle.assert_only((A, B, C), (D,))


def test_f5_a_site_lost_before_it_shared_anything_is_no_fault_of_the_others():
    """Flower's client raised KeyError for a site that was lost before it had sent shares."""
    cohort = Cohort(6)
    lost, late = cohort.names[0], cohort.names[3]
    round_ = cohort.begin(1, sites=cohort.names[1:])
    for name in cohort.names[1:]:
        round_.add_upload(name, *cohort.upload(name))
    for name, message in round_.freeze().items():
        round_.add_signature(name, cohort.clients[name].sign_freeze(message))
    certificate = round_.certificate()
    for name in set(round_.signed) - {late}:
        round_.add_reveal(name, cohort.clients[name].reveal(certificate))
    request = round_.recover_request()
    for name in set(round_.signed) - {late}:
        round_.add_recovery(name, cohort.clients[name].recover(request))
    assert round_.unmask().participants == 5
    assert lost not in round_.facts()["cohort"]


def test_f6_the_weight_and_the_statistics_travel_inside_the_mask_alone():
    """Flower sent number of examples and metrics in clear in the message whose arrays were masked."""
    assert {each.name for each in fields(messages.Upload)} == {"header", "bundles"}
    allowed = {"index", "round_ctx", "y_hash", "com_b", "tags", "sig"}
    assert {each.name for each in fields(messages.Header)} == allowed
    sent = []
    for weight, loss in ((1, 0.0), (1000, 123.0)):  # two runs alike but for what must stay hidden
        cohort = Cohort(4)
        cohort.begin(1)
        message, vector = cohort.clients[A].upload(CONSTANT, weight, {"loss": loss})
        upload = messages.Upload.decode(message)
        sent.append((upload.bundles, upload.header.com_b, upload.header.tags, len(message), len(vector)))
        assert b"loss" not in message
    assert sent[0] == sent[1]


@pytest.mark.parametrize("weight", [0, 1025, 2**31])
def test_f7_a_weight_beyond_the_limit_is_refused_and_never_wraps(weight):
    """Flower warned and summed on; the sum wrapped."""
    cohort = Cohort(4)
    cohort.begin(1)
    refused("E_WEIGHT_RANGE", cohort.clients[A].upload, CONSTANT, weight, {"loss": 0.0})


@pytest.mark.parametrize("ring", [32, 64])
def test_f7_values_at_the_clip_with_full_weight_do_not_wrap_and_clipping_is_counted(ring):
    cohort = Cohort(4)
    round_ = cohort.begin(1, plan=plan_of(4, ring=ring))
    for name in NAMES:
        largest = {"w": np.array([4.0, -4.0, 1e9], np.float32)}
        round_.add_upload(name, *cohort.clients[name].upload(largest, 1024, {"loss": 0.0}))
    for name, message in round_.freeze().items():
        round_.add_signature(name, cohort.clients[name].sign_freeze(message))
    certificate = round_.certificate()
    for name in NAMES:
        round_.add_reveal(name, cohort.clients[name].reveal(certificate))
    assert round_.unmask().means()["w"].tolist() == [4.0, -4.0, 4.0]
    assert round_.facts()["clipped"] == 4


def test_l1_a_round_masks_one_vector():
    """Fed-BioMed encrypted weights and auxiliary values under the same keys: their difference came out."""
    cohort = Cohort(4)
    cohort.begin(1)
    cohort.upload(A)
    client = cohort.clients[A]
    refused("E_ROUND_REPLAY", client.upload, CONSTANT, 1, {"loss": 0.0})
    start = Hostile(cohort).start(1)
    refused("E_ROUND_REPLAY", client.begin_round, start, MODEL_HASH)
    refused("E_ROUND_REPLAY", cohort.client(A).begin_round, start, MODEL_HASH)


def test_l2_a_number_that_the_server_knows_opens_no_coordinate():
    """Fed-BioMed put a known number under the mask of coordinate 0. Here no two words share key stream."""
    cohort = Cohort(4)
    cohort.begin(1)
    size = cohort.plan.vector_bytes
    message, vector = cohort.upload(A)
    assert messages.Upload.decode(message)
    for seed in seeds_of(cohort, A):
        words = MaskStream(seed).take(size).view("<u8").tolist()
        assert len(set(words)) == len(words)
    known = vector[cohort.plan.statistics_offset :].view("<u8")[3] - np.uint64(1)  # every site adds a one
    main = vector[: cohort.plan.main_bytes].view("<u8")
    scale = 2.0 ** cohort.plan.fraction_bits(cohort.plan.fields[0]) * weight_of(A)
    guess = (main - known).view("<i8") / scale
    assert np.abs(guess - update_of(A)["w"]).min() > 1.0


def test_l3_the_keys_of_two_rounds_are_not_related():
    """Fed-BioMed's round key was 16 bytes of key stream, the round number put in by XOR."""
    state = Cohort(4).clients[A]._memory.load()
    first, used = state.use_round(1)
    second, _ = used.use_round(2)
    for peer, chain_key in first.items():
        assert len(chain_key) == 32
        apart = int.from_bytes(chain_key) ^ int.from_bytes(second[peer])
        assert 64 < apart.bit_count() < 192
    contexts = [hashlib.sha256(bytes([number])).digest() for number in range(100)]
    of_rounds = [keys.mask_seed(keys.round_key(first[1], context)) for context in contexts]
    bits = np.unpackbits(np.frombuffer(b"".join(of_rounds), np.uint8)).reshape(100, 256)
    assert bits.mean(axis=0).min() > 0.2
    assert bits.mean(axis=0).max() < 0.8


def test_nvflare_a_nonce_of_the_servers_choice_makes_no_signature_of_ours():
    """NVFlare has the certificate's key sign the site's name and a nonce that the server chose."""
    cohort = Cohort(4, ready=False)
    advert = messages.Advert.decode(cohort.clients[A].advert())
    body = advert.signed_body()
    assert body.startswith(b"FLSA-1/advert\0")
    assert not messages.is_site_name("FLSA-1")
    assert not messages.is_site_name("FLSA-1.advert")
    key = identity_of(A).private_key
    for nonce in (body, body[len(A) :], body[len(b"FLSA-1/advert\0") :]):
        forged = messages.Advert(**{**_parts(advert), "sig": key.sign(A.encode() + nonce)})
        refused("E_KEY_AUTH", cohort.server.add_advert, A, forged.encode())


def _parts(message):
    return {each.name: getattr(message, each.name) for each in fields(message)}
