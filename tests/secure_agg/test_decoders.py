"""Strict messages: one encoding per value, and nothing but E_DECODE for anything else."""

import os
import tracemalloc
from contextlib import suppress
from dataclasses import fields, replace
from time import process_time

import numpy as np
import pytest

from secure_agg.errors import SecureAggregationError
from secure_agg.framing import BUNDLE_LIMIT, TEXT_LIMIT
from secure_agg.messages import BY_TYPE, Abort, Advert, Roster, RosterAck, is_site_name, peek_type
from secure_agg.wire import Reader, Writer
from tests.secure_agg.examples import MESSAGES, PLAN, SIGNATURE, STRUCTS, A, advert

MUTANTS = int(os.environ.get("CONSILIUM_SECAGG_N", "2000"))
by_kind = pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: type(struct).__name__)


def refused(call, *arguments) -> None:
    with pytest.raises(SecureAggregationError) as caught:
        call(*arguments)
    assert caught.value.code == "E_DECODE"
    assert caught.value.facts["field"]


@by_kind
def test_decode_and_encode_are_each_others_inverse(struct):
    data = struct.encode()
    assert type(struct).decode(data) == struct
    assert type(struct).decode(bytearray(data)) == struct


def test_every_message_says_its_type():
    assert [message.TYPE for message in MESSAGES] == sorted(BY_TYPE) == list(range(1, 14))
    for message in MESSAGES:
        assert peek_type(message.encode()) == message.TYPE
        assert BY_TYPE[message.TYPE] is type(message)
    for data in (b"", b"FLSA", b"FLSA\x01", b"FLSB\x01\x01", b"FLSA\x02\x01"):
        refused(peek_type, data)


@by_kind
def test_every_shorter_or_longer_message_is_refused(struct):
    data = struct.encode()
    for size in range(len(data)):
        refused(type(struct).decode, data[:size])
    refused(type(struct).decode, data + b"\0")


def mutate(data: bytes, other: bytes, numbers: np.random.Generator) -> bytes:
    at, end = sorted(numbers.integers(0, len(data) + 1, 2).tolist())
    match int(numbers.integers(0, 6)):
        case 0:
            at = min(at, len(data) - 1)
            return data[:at] + bytes([data[at] ^ 1 << int(numbers.integers(0, 8))]) + data[at + 1 :]
        case 1:
            return data[:at] + numbers.bytes(min(end - at, 4)) + data[at + min(end - at, 4) :]
        case 2:
            return data[:at] + data[end:]
        case 3:
            return data[:at] + b"\xff" * 4 + data[at:]
        case 4:
            return data[:at] + data[at:end] * 2 + data[end:]
        case _:
            return data[:at] + other[at:end] + data[end:]


@by_kind
def test_mutated_messages_are_refused_or_read_as_what_they_say(struct):
    numbers = np.random.default_rng(len(struct.encode()))
    corpus = [each.encode() for each in STRUCTS]
    data, began = struct.encode(), process_time()
    for _ in range(-(-MUTANTS // len(STRUCTS))):
        mutant = mutate(data, corpus[int(numbers.integers(0, len(corpus)))], numbers)
        try:
            found = type(struct).decode(mutant)
        except SecureAggregationError as error:
            accepted = error.code == "E_DECODE"
        else:
            accepted = found.encode() == mutant
        assert accepted, mutant.hex()
    assert process_time() - began < 0.01 * MUTANTS


@by_kind
def test_what_a_message_claims_to_hold_is_not_allocated(struct):
    numbers = np.random.default_rng(7)
    data = struct.encode()
    tracemalloc.start()
    for _ in range(100):
        mutant = mutate(data, b"\xff" * len(data), numbers)
        with suppress(SecureAggregationError):
            type(struct).decode(mutant)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024


def test_signed_bodies_of_two_kinds_never_agree():
    signed = [struct for struct in STRUCTS if hasattr(struct, "KIND")]
    bodies = [struct.signed_body() for struct in signed]
    assert len(signed) == 6
    for struct, body in zip(signed, bodies, strict=True):
        assert body.startswith(b"FLSA-1/" + struct.KIND.encode() + b"\0")
        assert body == replace(struct, sig=bytes(64)).signed_body()
    assert len({body.split(b"\0")[0] for body in bodies}) == 6


@pytest.mark.parametrize("name", ["", "a b", "ä", "FLSA-1x", "x" * 64, "a/b", "north\n"])
def test_a_name_that_could_mislead_is_no_site(name):
    assert not is_site_name(name)
    refused(replace(advert("north"), name=name).encode)
    right, wrong = b"\x05\0\0\0north", len(name.encode()).to_bytes(4, "little") + name.encode()
    refused(Advert.decode, advert("north").encode().replace(right, wrong))


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": ()}, {"chain": (b"a",) * 5}, {"chain": (bytes(8193),)}, {"sigalg": 0}, {"sigalg": 4},
        {"x25519_pk": bytes(31)}, {"epoch": 2**32}, {"epoch": -1}, {"job_id": ""}, {"job_id": "a\nb"},
        {"job_id": "x" * 129}, {"sig": bytes(1025)}, {"expiry": 2**64},
    ],
    ids=str,
)  # fmt: skip
def test_an_advert_that_nobody_would_read_is_not_written(changes):
    refused(replace(advert("north"), **changes).encode)


def test_an_advert_with_an_empty_chain_or_another_algorithm_is_not_read():
    whole = advert("north").encode()
    chain = b"\2\0\3\0\0\0own\4\0\0\0root"
    assert whole.count(chain) == 1
    refused(Advert.decode, whole.replace(chain, b"\0\0"))
    at = len(whole) - len(b"\2\t\0\0\0signature")
    assert whole[at] == 2
    refused(Advert.decode, whole[:at] + b"\4" + whole[at + 1 :])


def test_lists_are_sorted_and_hold_nothing_twice():
    refused(Roster((advert("b"), advert("a"))).encode)
    refused(Roster((advert("a"), advert("a"))).encode)
    by_name = {type(message).__name__: message for message in MESSAGES}
    for kind, changes in (
        ("RoundStart", {"users": (1, 1)}),
        ("RoundStart", {"users": (1000,)}),
        ("Freeze", {"bundles": ((2, b""), (1, b""))}),
        ("Freeze", {"bundles": ((2, bytes(BUNDLE_LIMIT + 1)),)}),
        ("Cert", {"signatures": ((-1, SIGNATURE),)}),
        ("Cert", {"signatures": tuple((i, SIGNATURE) for i in range(1001))}),
    ):
        refused(replace(by_name[kind], **changes).encode)


def test_an_abort_names_a_known_code_and_plain_text():
    for changes in (
        {"code": 0},
        {"code": 999},
        {"text": ""},
        {"text": "ü"},
        {"text": "x" * (TEXT_LIMIT + 1)},
    ):
        refused(replace(Abort(5, 9, "text"), **changes).encode)
    refused(Abort.decode, Abort(5, 9, "text").encode().replace(b"\5\0\x09", b"\xff\xff\x09"))


def test_flags_and_kinds_have_no_second_spelling():
    whole = RosterAck(A, True, SIGNATURE).encode()
    at = len(whole) - 65
    refused(RosterAck.decode, whole[:at] + b"\2" + whole[at + 1 :])
    data = PLAN.encode()
    for at, byte in ((len(PLAN.START), 9), (len(PLAN.START) + 1, 33)):
        refused(type(PLAN).decode, data[:at] + bytes([byte]) + data[at + 1 :])
    for wrong in (b"\x05\0\0\0count\x09\2", b"\x05\0\0\0count\4\x09"):
        refused(type(PLAN).decode, data.replace(b"\x05\0\0\0count\4\2", wrong))


def test_a_long_list_must_have_its_bytes():
    refused(Reader(b"\xe8\x03").count, "sites", 1)
    refused(Reader(b"\xe9\x03" + bytes(1001)).count, "sites", 1)
    refused(Reader(b"\xe8\x03").index, "site")
    refused(Reader(b"\x05\0\0\0abcde").blob, "text", 4)
    writer = Writer()
    writer.u8("flag", 255)
    assert writer.done() == b"\xff"
    refused(writer.u8, "flag", 256)
    assert {each.name for each in fields(PLAN)} >= {"context", "freeze_s"}
