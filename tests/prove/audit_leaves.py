"""Entries that no writer makes, with the right tree, log signature and cosignatures over them."""

import json

from tests.compliance.crafted import Log, Parts

TOO_DEEP: object = 1
for _name in ("e", "d", "c", "b", "a"):
    TOO_DEEP = {_name: TOO_DEEP}
STRANGE_LEAVES: dict[str, bytes] = {
    "space": b'{"id": "x"}',
    "order": b'{"id":"x","a":1}',
    "escape": b'{"id":"\\u0041"}',
    "escaped slash": b'{"id":"a\\/b"}',
    "upper hex": b'{"id":"\\u001F"}',
    "escaped line feed": b'{"id":"\\u000a"}',
    "bare control": b'{"id":"a\tb"}',
    "key twice": b'{"id":"x","id":"x"}',
    "key twice, otherwise": b'{"a":1,"a":2,"id":"x"}',
    "float": b'{"a":1.5,"id":"x"}',
    "whole float": b'{"a":1.0,"id":"x"}',
    "exponent": b'{"a":1e2,"id":"x"}',
    "huge exponent": b'{"a":1e999,"id":"x"}',
    "minus zero": b'{"a":-0,"id":"x"}',
    "plus": b'{"a":+1,"id":"x"}',
    "leading zero": b'{"a":01,"id":"x"}',
    "2^53": b'{"a":9007199254740992,"id":"x"}',
    "2^53 + 1": b'{"a":9007199254740993,"id":"x"}',
    "-2^53": b'{"a":-9007199254740992,"id":"x"}',
    "10^20": b'{"a":100000000000000000000,"id":"x"}',
    "5000 digits": b'{"a":' + b"7" * 5000 + b',"id":"x"}',
    "NaN": b'{"a":NaN,"id":"x"}',
    "Infinity": b'{"a":-Infinity,"id":"x"}',
    "True": b'{"a":True,"id":"x"}',
    "upper key": b'{"A":1,"id":"x"}',
    "empty key": b'{"":1,"id":"x"}',
    "long key": b'{"' + b"a" * 33 + b'":1,"id":"x"}',
    "key of digits": b'{"1":1,"id":"x"}',
    "prototype": b'{"__proto__":{"id":"x"},"id":"x"}',
    "only a prototype": b'{"__proto__":{"id":"x"}}',
    "inner key": b'{"a":{"B":1},"id":"x"}',
    "too deep": json.dumps({"a": TOO_DEEP, "id": "x"}, separators=(",", ":")).encode(),
    "list too deep": b'{"a":[[[[1]]]],"id":"x"}',
    "empty list too deep": b'{"a":[[[[[]]]]],"id":"x"}',
    "empty list at the fifth level": b'{"a":[[[[]]]],"id":"x"}',
    "empty object at the fifth level": b'{"a":[[[{}]]],"id":"x"}',
    "very deep": b"[" * 4000 + b"]" * 4000,
    "no id": b'{"a":1}',
    "id is a number": b'{"id":1}',
    "id is null": b'{"id":null}',
    "id within": b'{"a":{"id":"x"}}',
    "list": b'["id"]',
    "string": b'"id"',
    "number": b"1",
    "null": b"null",
    "empty": b"",
    "byte order mark": b'\xef\xbb\xbf{"id":"x"}',
    "line feed": b'{"id":"x"}\n',
    "two": b'{"id":"x"}{"id":"y"}',
    "trailing comma": b'{"id":"x",}',
    "comment": b'{"id":"x"/**/}',
    "single quotes": b"{'id':'x'}",
    "not UTF-8": b'{"id":"\xff"}',
    "overlong": b'{"id":"\xc0\xaf"}',
    "surrogate in UTF-8": b'{"id":"\xed\xa0\x80"}',
    "lone surrogate": b'{"id":"\\ud800"}',
    "pair of escapes": b'{"id":"\\ud83d\\ude00"}',
    "above Unicode": b'{"id":"\xf4\x90\x80\x80"}',
    "NUL": b'{"id":"x\x00"}',
    "UTF-16": '{"id":"x"}'.encode("utf-16-le"),
    "8193 bytes": b'{"id":"' + b"x" * (8193 - 9) + b'"}',
    "a text of 9000 bytes": b'{"id":"' + b"x" * 9000 + b'"}',
    "a text of 30000 bytes": b'{"id":"' + b"x" * 30_000 + b'"}',
}
SOUND_LEAVES: dict[str, bytes] = {
    "8192 bytes": b'{"id":"' + b"x" * (8192 - 9) + b'"}',
    "largest integer": b'{"a":9007199254740991,"b":-9007199254740991,"id":"x"}',
    "empty id": b'{"id":""}',
    "four levels": b'{"a":[[[1]]],"id":"x"}',
    "empty at the fourth level": b'{"a":[[[]]],"id":"x"}',
    "escapes that must be": b'{"id":"\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f"}',
    "line separators": '{"id":"\u2028\u2029\u0085"}'.encode(),
    "noncharacters": '{"id":"\ufffe\uffff\U0010ffff\ufffd\ufeff"}'.encode(),
    "all of a kind": b'{"a":null,"b":true,"c":false,"d":0,"e":-1,"f":[],"g":{},"h":"","id":"x"}',
    "composed letters": '{"id":"\u00e9\u4e2d\U0001f3e5"}'.encode(),
}


def true_tree_over(log: Log, leaf: bytes, place: int) -> Parts:
    """The whole log with ``leaf`` at ``place``: hashed, signed and co-signed as it is."""
    entries = [*log.entries]
    entries[place] = leaf
    return Log(log.number, log.sites, entries, log.origin).parts([(0, len(entries))])
