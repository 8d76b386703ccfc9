"""Canonical bytes of an audit entry: a restricted profile of RFC 8785 (JSON Canonicalization Scheme).

Restricted so that every JSON library agrees on the bytes: no floats, integers below 2^53, keys of
``[a-z][a-z0-9_]{0,31}`` in byte order, strings in Unicode NFC of at most 8192 bytes, at most 4 objects and
lists inside one another. That texts are NFC is asked for when an entry is written, not when it is read: the
tables of Unicode grow, and two readers of one entry must agree.
"""

import json
import re
import unicodedata
from functools import lru_cache
from typing import TypeAlias

MAX_BYTES = 8192
MAX_DEPTH = 4
MAX_INTEGER = 2**53
KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")

Value: TypeAlias = "bool | int | str | list[Value] | dict[str, Value] | None"


class CanonicalError(ValueError):
    """A value has no canonical form in this profile."""


def canonical_bytes(value: object) -> bytes:
    """The one encoding of ``value``. Raises CanonicalError when it has none or exceeds 8192 bytes."""
    _check(value, depth=0, is_written=True)
    return _encode(value)


def _encode(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    data = text.encode()
    if len(data) > MAX_BYTES:
        raise CanonicalError(f"The entry has {len(data)} bytes; at most {MAX_BYTES} are allowed.")
    return data


def parse_canonical(data: bytes) -> Value:
    """Decode and insist that ``data`` is exactly the canonical form. Raises CanonicalError."""
    if len(data) > MAX_BYTES:
        raise CanonicalError(f"The entry has {len(data)} bytes; at most {MAX_BYTES} are allowed.")
    try:
        value: Value = json.loads(data.decode(), object_pairs_hook=_without_repeats)
        _check(value, depth=0)
        again = _encode(value)
    except CanonicalError:
        raise
    except (ValueError, RecursionError) as error:  # also an integer of more digits than Python converts
        raise CanonicalError("The bytes are not JSON in UTF-8.") from error
    if again != data:
        raise CanonicalError("The bytes are JSON, but not in canonical form.")
    return value


def _without_repeats(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    """RFC 8259 leaves repeated keys open; two readers could see two entries."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise CanonicalError("A key is repeated.")
    return dict(pairs)


def _check(value: object, depth: int, *, is_written: bool = False) -> None:
    if isinstance(value, str):
        _check_text(value, is_written=is_written)
    elif isinstance(value, (list, dict)):
        if depth >= MAX_DEPTH:
            raise CanonicalError(f"The entry is nested deeper than {MAX_DEPTH} levels.")
        for key in value if isinstance(value, dict) else ():
            _check_key(key)
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1, is_written=is_written)
    elif isinstance(value, int):  # True and False are 1 and 0
        if abs(value) >= MAX_INTEGER:
            raise CanonicalError("An integer is too large for JSON (2^53).")
    elif value is not None:
        raise CanonicalError(f"{type(value).__name__} has no canonical form; write scores as basis points.")


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not _is_key(key):
        raise CanonicalError(f"The key {key!r} is not allowed.")


@lru_cache(maxsize=1024)  # the same few in every entry
def _is_key(text: str) -> bool:
    return KEY.fullmatch(text) is not None


def _check_text(text: str, *, is_written: bool) -> None:
    size = len(text)
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise CanonicalError("A text is not valid Unicode.") from error
        if is_written and not unicodedata.is_normalized("NFC", text):
            raise CanonicalError("A text is not in Unicode normal form C.")
    if size > MAX_BYTES:
        raise CanonicalError("A text is too long.")
