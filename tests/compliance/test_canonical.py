import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.canonical import MAX_BYTES, CanonicalError, canonical_bytes, parse_canonical

KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.from_regex(r"[a-zA-Z0-9 äé中]{0,20}", fullmatch=True)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


def test_keys_are_sorted_and_nothing_is_padded():
    assert canonical_bytes({"b": 1, "a": "中"}) == '{"a":"中","b":1}'.encode()


@given(st.dictionaries(KEYS, LEAVES, max_size=5))
def test_what_was_written_is_read_back(value):
    assert parse_canonical(canonical_bytes(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1.0},
        {"a": float("nan")},
        {"a": 2**53},
        {"A": 1},
        {"": 1},
        {"a" * 33: 1},
        {"a": "e\u0301"},
        {"a": "\ud800"},
        {"a": b"bytes"},
        {"a": "x" * (MAX_BYTES + 1)},
        {"a": {"a": {"a": {"a": {"a": 1}}}}},
    ],
)
def test_what_two_readers_could_read_differently_is_refused(value):
    with pytest.raises(CanonicalError):
        canonical_bytes(value)


@pytest.mark.parametrize(
    "data", [b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":1,"a":1}', b"\xff", b"{", b"[" * 5000]
)
def test_other_bytes_are_not_taken_for_an_entry(data):
    with pytest.raises(CanonicalError):
        parse_canonical(data)


def test_the_entry_as_a_whole_is_limited():
    with pytest.raises(CanonicalError, match="at most"):
        canonical_bytes({"a": ["x" * 100] * 100})


def test_the_bytes_are_plain_json():
    assert json.loads(canonical_bytes({"a": [True, None, -1]})) == {"a": [True, None, -1]}
