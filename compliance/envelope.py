"""What every entry is at its top: reading id and time from canonical bytes, as fast as a sequencer must.

Almost all entries are flat objects without escapes. For those one regular expression proves the whole
canonical form in a seventh of the time that decoding and encoding again take; the others are decoded.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from compliance.canonical import MAX_BYTES, CanonicalError, parse_canonical

_TEXT = r'"[^"\\\x00-\x1f]*"'
_KEY = r'"[a-z][a-z0-9_]{0,31}"'
_SCALAR = rf"(?:{_TEXT}|0|-?[1-9][0-9]{{0,14}}|true|false|null)"
_DATA = rf"\{{(?:{_KEY}:{_SCALAR}(?:,{_KEY}:{_SCALAR})*)?\}}"
_OBJECT = rf'\{{"digest":{_TEXT},"id":{_TEXT},"type":{_TEXT}\}}'
_PLAIN = re.compile(
    rf'\{{"act":{_TEXT},'
    rf'"actor":\{{"id":{_TEXT},"roles":\[(?:{_TEXT}(?:,{_TEXT})*)?\],"type":{_TEXT}\}},'
    rf'(?:"body_c":{_TEXT},)?"data":(?P<data>{_DATA}),"id":"(?P<id>[^"\\\x00-\x1f]*)",'
    rf'"job":{_TEXT},"log":{_TEXT},"obj":\[(?:{_OBJECT}(?:,{_OBJECT})*)?\],"out":{_TEXT},'
    rf'"rnd":(?:null|0|[1-9][0-9]{{0,14}}),"site":{_TEXT},"ts":"(?P<ts>[0-9]{{4}}-[^"\\\x00-\x1f]*)","v":1\}}'
)
_BEGINS_WITH_A_YEAR = re.compile("[0-9]{4}-")
_KEYS = re.compile(rf"({_KEY}):")


class Envelope(NamedTuple):
    """``ts``: RFC 3339 in UTC; nothing about it is checked but that it is a text that begins with a year."""

    id: str
    ts: str

    @property
    def year(self) -> int:
        return int(self.ts[:4])


def read_envelope(data: bytes) -> Envelope:
    """Id and time of the entry. Raises CanonicalError unless ``data`` is canonical and has both."""
    return _read_plain(data) or _read_any(data)


def _read_plain(data: bytes) -> Envelope | None:
    """None for what is not plain, canonical or not."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    match = _PLAIN.fullmatch(text) if len(data) <= MAX_BYTES else None
    if match is None:
        return None
    members, name, moment = match.groups()
    keys = _KEYS.findall(members)  # a text has no quote inside, so these are all keys and nothing else
    if len(keys) > 1 and any(first >= second for first, second in pairwise(keys)):
        return None
    return Envelope(name, moment)


def _read_any(data: bytes) -> Envelope:
    value = parse_canonical(data)
    if isinstance(value, dict):
        name, moment = value.get("id"), value.get("ts")
        if isinstance(name, str) and isinstance(moment, str):
            if not _BEGINS_WITH_A_YEAR.match(moment):
                raise CanonicalError("The time of the entry is no time.")
            return Envelope(name, moment)
    raise CanonicalError("The entry has no id or no time.")
