import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.canonical import CanonicalError, canonical_bytes, parse_canonical
from compliance.envelope import _read_plain, read_envelope

ENVELOPE = {
    "v": 1,
    "id": "6f1c9d1e-0000-4000-8000-000000000000",
    "ts": "2026-11-26T19:00:00.000000Z",
    "log": "consilium",
    "site": "site-a",
    "actor": {"type": "user", "id": "5", "roles": ["auditor", "operator"]},
    "act": "site.invited",
    "out": "ok",
    "obj": [{"type": "site", "id": "site-a", "digest": ""}, {"type": "kit", "id": "1", "digest": "ab"}],
    "job": "",
    "rnd": None,
    "data": {"a": 1, "a_b": "市医院", "b": True, "c": -3, "d": None},
}
LEAF = canonical_bytes(ENVELOPE)
texts = st.text(max_size=12)
scalars = st.one_of(texts, st.integers(-(2**60), 2**60), st.booleans(), st.none(), st.floats())
keys = st.one_of(st.sampled_from(["a", "a_b", "ab", "a0", "b", "A", "", "é", "a-b"]), texts)


def reference(data):
    value = parse_canonical(data)
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise CanonicalError("no id")
    return value["id"], value.get("ts")


def test_the_usual_entry_is_read_without_decoding():
    plain = _read_plain(LEAF)
    assert plain == read_envelope(LEAF) == (ENVELOPE["id"], ENVELOPE["ts"])
    assert plain.year == 2026
    assert _read_plain(canonical_bytes(ENVELOPE | {"data": {}, "obj": [], "body_c": "ab"}))


@pytest.mark.parametrize(
    "change",
    [{"data": {"a": [1, {"b": "c"}]}}, {"data": {"a": 'quo"te'}}, {"more": 1}, {"site": "a\nb"}],
)
def test_the_unusual_entry_is_decoded(change):
    leaf = canonical_bytes(ENVELOPE | change)
    assert _read_plain(leaf) is None
    assert read_envelope(leaf).id == ENVELOPE["id"]


@given(st.dictionaries(keys, scalars, max_size=4), st.booleans(), texts)
def test_what_the_expression_takes_is_canonical(data, is_sorted, site):
    envelope = ENVELOPE | {"data": data, "site": site}
    text = json.dumps(envelope, sort_keys=is_sorted, separators=(",", ":"), ensure_ascii=False)
    check(text.encode(errors="surrogatepass"))


@given(st.integers(0, len(LEAF) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_no_changed_byte_makes_the_expression_take_what_is_not_canonical(at, put, cut):
    check(LEAF[:at] + put + LEAF[at + cut :])


def check(data):
    plain = _read_plain(data)
    if plain is not None:
        assert reference(data) == tuple(plain)
    try:
        wanted = reference(data)
    except CanonicalError:
        wanted = None
    try:
        got = tuple(read_envelope(data))
    except CanonicalError:
        got = None
    assert got in (wanted, None)
    assert got is not None or wanted is None or not re.match("[0-9]{4}-", str(wanted[1]))


@pytest.mark.parametrize(
    "data",
    [
        LEAF.replace(b'"a":1,"a_b"', b'"a_b":1,"a"'),
        LEAF.replace(b'"a":1', b'"a":1.5'),
        LEAF.replace(b'"a":1', b'"a":01'),
        LEAF.replace(b'"a":1', b'"a":9007199254740993'),
        LEAF.replace(b'"a_b"', b'"a"'),
        LEAF.replace("市".encode(), b"\xff"),
        LEAF.replace(b"2026-11", b"in 2026"),
        canonical_bytes({"id": "a", "ts": 5}),
        canonical_bytes({"id": "a"}),
        canonical_bytes([]),
        b"rubbish",
        LEAF + b"\n",
        LEAF.replace(b"site-a", b"x" * 9000),
    ],
)
def test_what_no_verifier_reads_is_refused(data):
    with pytest.raises(CanonicalError):
        read_envelope(data)
