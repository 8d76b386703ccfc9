"""A hostile site against the others: who is blamed, what the round still comes to, and what came out."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from secure_agg import messages
from secure_agg.bundles import bundle_bytes
from secure_agg.encoding import encode_masked
from secure_agg.errors import SecureAggregationError
from secure_agg.shamir import PRIME
from tests.secure_agg.cohort import Cohort, update_of
from tests.secure_agg.table import NAMES, A, B, C, D, E, Table
from tests.secure_agg.test_dropouts import assert_right


def refused(code, call, *arguments, **about):
    with pytest.raises(SecureAggregationError) as error:
        call(*arguments, **about)
    assert error.value.code == code
    return error.value


@pytest.fixture
def table(watch):
    return Table(watch)


def others(upload):
    return dict(messages.Upload.decode(upload).bundles)


def test_broken_bundles_are_complained_of_and_do_not_stop_the_round(table):
    bundles = {peer: bytes(len(bundle)) for peer, bundle in others(table.sent[E][0]).items()}
    table.alter_upload(bundles=tuple(bundles.items()))
    table.upload()
    table.certify()
    assert table.round.facts()["complaints"] == {name: [E] for name in NAMES[:4]}
    table.reveal(NAMES)
    assert_right(table.cohort, table.round, NAMES)
    table.oracle.assert_only(NAMES[:4])


def test_a_site_with_broken_bundles_cannot_be_recovered_and_nothing_more_comes_out(table):
    bundles = {peer: bytes(len(bundle)) for peer, bundle in others(table.sent[E][0]).items()}
    table.alter_upload(bundles=tuple(bundles.items()))
    table.upload()
    table.certify()
    table.reveal(NAMES[:4])
    table.recover(NAMES[:4])
    error = refused("E_RECOVERY_FAILED", table.round.unmask)
    assert (error.facts["site"], error.facts["have"]) == (E, 0)
    table.oracle.assert_only(NAMES[:4])


@pytest.mark.parametrize(
    "bundles",
    [
        lambda found: found[:-1],
        lambda found: (*found, (4, bytes(bundle_bytes(5)))),
        lambda found: (*found[:-1], (found[-1][0], found[-1][1][:-1])),
        lambda found: (*found[:-1], (found[-1][0], b"")),
    ],
)
def test_missing_extra_or_short_bundles_leave_the_site_out(table, bundles):
    table.alter_upload(bundles=bundles(messages.Upload.decode(table.sent[E][0]).bundles))
    assert refused("E_DECODE", table.round.add_upload, E, *table.sent[E]).facts["site"] == E
    table.upload(NAMES[:4])
    table.certify()
    table.reveal(NAMES[:4])
    assert_right(table.cohort, table.round, NAMES[:4])
    table.oracle.assert_only(NAMES[:4], [E])


def test_wrong_seeds_are_blamed_and_recovered(table):
    table.upload([A, B, C, E])  # D is dropped: E also owes a pair's seed
    certificate = table.certify()
    honest = messages.Reveal.decode(table.cohort.clients[E].reveal(certificate))
    pair = honest.seeds[0][0]
    for changes in (
        {"b": bytes(32)},
        {"seeds": ((pair, bytes(32)),)},
        {"seeds": ()},
        {"seeds": (*honest.seeds, (4, bytes(32)))},
    ):
        wrong = table.resign(honest, **changes).encode()
        assert refused("E_BAD_SHARE", table.round.add_reveal, E, wrong).facts["site"] == E
    assert table.round.facts()["blamed"] == [E]
    table.reveal([A, B, C])
    refused("E_RECOVERY_FAILED", table.round.recover_request)  # t is 4: too few are left to help
    table.round.add_reveal(E, honest.encode())
    assert_right(table.cohort, table.round, [A, B, C, E])
    table.oracle.assert_only([A, B, C], [D])


def test_a_wrong_own_seed_is_recovered_from_the_shares(table):
    table.upload()
    certificate = table.certify()
    table.reveal(NAMES[:4])
    honest = messages.Reveal.decode(table.cohort.clients[E].reveal(certificate))
    refused("E_BAD_SHARE", table.round.add_reveal, E, table.resign(honest, b=bytes(32)).encode())
    table.recover(NAMES[:4])
    assert_right(table.cohort, table.round, NAMES)
    assert (table.round.recovered, table.round.facts()["blamed"]) == ((E,), [E])


def test_a_commitment_to_another_seed_ends_the_round_with_its_maker_named(table):
    """E commits to one seed and shares another; its shares fit together but not the commitment."""
    table.alter_upload(com_b=bytes(32))
    table.upload()
    with pytest.raises(SecureAggregationError):
        table.certify()  # E's own client does not sign a header it did not make
    assert table.round.signed == NAMES[:4]
    table.reveal(NAMES[:4])
    table.recover(NAMES[:4])
    assert refused("E_BAD_SHARE", table.round.unmask).facts["site"] == E
    table.oracle.assert_only(NAMES[:4])


@pytest.mark.parametrize(
    "share",
    [bytes(33), (PRIME + 1).to_bytes(33, "big"), b"\xff" * 33],
    ids=["zero", "beyond the field", "ones"],
)
def test_a_holder_with_wrong_shares_is_found_and_does_not_stop_the_recovery(watch, share):
    """Six sites: t is 4, so one of five helpers may lie."""
    cohort = Cohort(6)
    names = cohort.names
    round_ = cohort.begin(1)
    for name in names:
        round_.add_upload(name, *cohort.upload(name))
    for name, message in round_.freeze().items():
        round_.add_signature(name, cohort.clients[name].sign_freeze(message))
    for name in names[:5]:
        round_.add_reveal(name, cohort.clients[name].reveal(round_.certificate()))
    request = round_.recover_request()
    for name in names[:5]:
        answer = cohort.clients[name].recover(request)
        if name == names[1]:
            honest = messages.Recover.decode(answer)
            lie = replace(honest, shares=((5, (share, ())),))
            key = cohort.clients[name]._round._signing_key
            answer = replace(lie, sig=key.sign(lie.signed_body())).encode()
        round_.add_recovery(name, answer)
    assert_right(cohort, round_, names)
    assert round_.facts()["blamed"] == [names[1]]


def test_of_a_pair_that_disagrees_the_later_is_left_out(table):
    tags = messages.Upload.decode(table.sent[E][0]).header.tags
    table.alter_upload(tags=((0, bytes(16)), *tags[1:]))
    table.upload(NAMES[:4])
    error = refused("E_PAIR_TAG", table.round.add_upload, E, *table.sent[E])
    assert {error.facts["site"], error.facts["peer"]} == {A, E}
    table.certify()
    table.reveal(NAMES[:4])
    assert_right(table.cohort, table.round, NAMES[:4])


def test_a_site_finds_a_wrong_tag_that_the_server_overlooked(table):
    tags = messages.Upload.decode(table.sent[E][0]).header.tags
    table.alter_upload(tags=((0, bytes(16)), *tags[1:]))
    table.round._check_tags = lambda index, header: None
    table.upload()
    frozen = table.round.freeze()
    error = refused("E_PAIR_TAG", table.cohort.clients[A].sign_freeze, frozen[A])
    assert (error.facts["site"], error.facts["peer"]) == (E, A)
    table.cohort.clients[B].sign_freeze(frozen[B])
    table.oracle.nothing()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"round_ctx": bytes(32)}, "E_CONTEXT_MISMATCH"),
        ({"index": 0}, "E_HEADER_AUTH"),
        ({"tags": ()}, "E_DECODE"),
        ({"y_hash": bytes(32)}, "E_DECODE"),
    ],
)
def test_uploads_that_do_not_fit_the_round_are_left_out(table, changes, code):
    table.alter_upload(**changes)
    refused(code, table.round.add_upload, E, *table.sent[E])
    assert table.round.uploaded == ()


def test_a_vector_of_another_length_or_type_is_left_out(table):
    vector = table.sent[E][1]
    for other in (vector[:-8], vector.view(np.uint64), np.concatenate([vector, vector])):
        refused("E_DECODE", table.round.add_upload, E, table.sent[E][0], other)
    spread = np.stack([vector, vector], axis=1)[:, 0]
    table.round.add_upload(E, table.sent[E][0], spread)  # the same bytes


def test_one_vector_per_site(table):
    table.upload([E])
    refused("E_ROUND_REPLAY", table.round.add_upload, E, *table.sent[E])
    assert table.round.uploaded == (E,)


def test_a_site_cannot_speak_for_another(table):
    table.upload(NAMES[:4])
    refused("E_HEADER_AUTH", table.round.add_upload, E, *table.sent[A])
    refused("E_CONTEXT_MISMATCH", table.round.add_upload, "site-99", *table.sent[A])
    frozen = table.round.freeze()
    signature = table.cohort.clients[A].sign_freeze(frozen[A])
    refused("E_HEADER_AUTH", table.round.add_signature, B, signature)
    refused("E_DROPPED", table.round.add_signature, E, signature)
    refused("E_DECODE", table.round.add_signature, A, signature[:-1])
    other = messages.FreezeSig(bytes(32), (), bytes(64)).encode()
    refused("E_CONTEXT_MISMATCH", table.round.add_signature, A, other)


class Liar:
    """Site E masks a vector of its own making: the lane says what it likes."""

    def __init__(self, table, weight, participants):
        client = table.cohort.clients[E]
        plan, seeds = client._round.terms.plan, client._round._seeds
        masks = [(client._round._b, 1), *((seed, -1) for seed in seeds.values())]
        vector = encode_masked(plan, update_of(E), 1, {"loss": 0.0}, masks)
        lane = vector[plan.statistics_offset :].view("<u8")
        lane[:1] += np.uint64((weight - 1) % 2**64)
        lane[3:4] += np.uint64((participants - 1) % 2**64)
        self.vector = vector


@pytest.mark.parametrize(
    ("weight", "participants"), [(2**40, 1), (-(2**40), 1), (0 - 46 - 1, 1), (10, 2), (10, 0), (10, -4)]
)
def test_a_sum_outside_the_plan_is_thrown_away(table, weight, participants):
    vector = Liar(table, weight, participants).vector
    table.alter_upload(vector=vector, y_hash=hashlib.sha256(vector).digest())
    table.upload()
    frozen = table.round.freeze()
    for name in NAMES[:4]:
        table.round.add_signature(name, table.cohort.clients[name].sign_freeze(frozen[name]))
    table.reveal(NAMES[:4])
    honest = table.cohort.clients[E]._round
    reveal = table.resign(messages.Reveal(table.round._freeze_hash, honest._b, ()))
    table.round.add_reveal(E, reveal.encode())
    error = refused("E_SUM_RANGE", table.round.unmask)
    assert error.facts["round"] == 1
    refused("E_ROUND_REPLAY", table.round.unmask)


@pytest.mark.parametrize(
    "shares",
    [
        ((0, (bytes(33), ())),),  # nobody asked for A
        ((4, (bytes(33), ((3, bytes(33)),))),),  # D did not drop
    ],
)
def test_shares_that_nobody_asked_for_are_not_taken(table, shares):
    table.upload()
    table.certify()
    answer = table.resign(messages.Recover(table.round._freeze_hash, shares))
    answer = replace(answer, sig=table.key(A).sign(answer.signed_body())).encode()
    refused("E_NOT_FROZEN", table.round.add_recovery, A, answer)
    table.reveal(NAMES[:4])
    table.round.recover_request()
    assert refused("E_DECODE", table.round.add_recovery, A, answer).facts["site"] == A


def test_a_late_reveal_makes_the_recovery_unnecessary(table):
    table.upload()
    certificate = table.certify()
    table.reveal(NAMES[:4])
    request = table.round.recover_request()
    table.round.add_reveal(E, table.cohort.clients[E].reveal(certificate))
    table.round.add_recovery(A, table.cohort.clients[A].recover(request))
    assert_right(table.cohort, table.round, NAMES)
    assert table.round.recovered == ()
