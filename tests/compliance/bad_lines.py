"""Bundles whose numbers, hashes or entries break a rule."""

import base64
import re

from tests.compliance.bad_bundles import GOOD, LINES, NULL, case, last, line, replaced_head
from tests.compliance.small_log import bundle_of, checkpoint, cosigned

NOT_CANONICAL = {
    "not JSON": "hello",
    "not UTF-8": b'{"id":"\xff"}',
    "no bytes": b"",
    "a list": '["id"]',
    "no id": '{"n":1}',
    "id is a number": '{"id":1}',
    "id is null": '{"id":null}',
    "spaces": '{"id": "a"}',
    "line feed behind": '{"id":"a"}\n',
    "byte order mark in front": '\ufeff{"id":"a"}',
    "keys not sorted": '{"n":1,"id":"a"}',
    "key twice": '{"id":"a","id":"b"}',
    "key twice, one escaped": '{"id":"a","\\u0069d":"b"}',
    "key in upper case": '{"Id":"a","id":"a"}',
    "key with a line feed": '{"id":"a","n\\n":1}',
    "key __proto__": '{"__proto__":{"x":1},"id":"a"}',
    "a float": '{"id":"a","n":1.5}',
    "a whole float": '{"id":"a","n":1.0}',
    "an exponent": '{"id":"a","n":1e3}',
    "negative zero": '{"id":"a","n":-0}',
    "an integer of 2^53": '{"id":"a","n":9007199254740992}',
    "an integer of 5000 digits": '{"id":"a","n":' + "1" * 5000 + "}",
    "NaN": '{"id":"a","n":NaN}',
    "Infinity": '{"id":"a","n":-Infinity}',
    "a needless escape": '{"id":"\\u0061"}',
    "an escaped slash": '{"id":"a\\/b"}',
    "an upper-case escape": '{"id":"\\u001F"}',
    "half a surrogate pair": '{"id":"\\ud800"}',
    "an escaped emoji": '{"id":"\\ud83d\\ude00"}',
    "a raw tab": '{"id":"a\tb"}',
    "five levels": '{"a":[[[[]]]],"id":"a"}',
    "deep rubbish": "[" * 8000,
    "a trailing comma": '{"id":"a",}',
    "two values": '{"id":"a"}{"id":"b"}',
}


def broken_lines() -> dict[str, dict[str, object]]:
    return {**numbers(), **contents()}


def numbers() -> dict[str, dict[str, object]]:
    good = str(cosigned(checkpoint(20)))
    return {
        "no ranges": case(4, "at least one", re.sub(r"ranges 3\n(.*\n)+?heads", "ranges 0\nheads", GOOD)),
        "empty range": case(4, "END > START", line("range 7", "range 7 7 5")),
        "range backwards": case(4, "END > START", line("range 7", "range 8 7 5")),
        "ranges touch": case(4, "adjacent ranges are one", GOOD.replace("range 7 8 5", "range 5 6 5")),
        "ranges overlap": case(4, "disjoint", GOOD.replace("range 7 8 5", "range 4 5 5")),
        "ranges not ascending": case(4, "ascending", GOOD.replace("range 7 8 5", "range 1 2 5")),
        "leading zero": case(4, "decimal", line("range 7", "range 07 8 5")),
        "plus sign": case(4, "decimal", line("range 7", "range +7 8 5")),
        "underscore": case(4, "what Python's int() would take", line("range 7", "range 7 8_0 5")),
        "wide digits": case(4, "what isdigit() would take", line("range 7", "range ７ 8 5")),
        "number too large": case(4, "2^53", line("range 19", f"range 19 {2**53} 3")),
        "far end": case(4, "2^53 - 1 lines are announced", line("range 19", f"range 19 {2**53 - 1} 3")),
        "too many hashes": case(4, "107: no proof is that long", line("range 7", "range 7 8 107")),
        "hash too short": case(4, "31 bytes", line(LINES[3], base64.b64encode(bytes(31)).decode())),
        "hash base64": case(4, "unused bits are set", line(LINES[3], NULL[:-2] + "B=")),
        "hash without padding": case(4, "padding is asked for", line(LINES[3], NULL[:-1])),
        "hash with URL alphabet": case(4, "standard alphabet", line(LINES[3], "_" + NULL[1:])),
        "hash with a space": case(
            4, "what lenient decoders skip", line(LINES[3], NULL[:8] + "\x0b" + NULL[8:])
        ),
        "heads not ascending": case(4, "sizes ascend", swapped_heads()),
        "head as large as the last": case(
            4, "each smaller than the last one's", replaced_head(checkpoint(20))
        ),
        "head twice": case(4, "strictly", replaced_head(checkpoint(5))),
        "size with leading zero": case(4, "decimal", last(good.replace("\n20\n", "\n020\n"))),
        "size negative": case(4, "decimal", last(good.replace("\n20\n", "\n-20\n"))),
        "size too large": case(4, "2^53", last(good.replace("\n20\n", f"\n{2**53}\n"))),
    }


def swapped_heads() -> str:
    first, second = [i for i, one in enumerate(LINES) if one.startswith("head ")]
    return "\n".join([*LINES[:first], *LINES[second:-1], *LINES[first:second], LINES[-1], ""])


def contents() -> dict[str, dict[str, object]]:
    why = "no canonical JSON with an id"
    found = {f"entry: {name}": case(4, why, one(text)) for name, text in NOT_CANONICAL.items()}
    long = '{"id":"' + "x" * 8192 + '"}'
    odd = '{"id":"\\b\\f\\n\\r\\t\\u001f\\"\\\\/\u007f\u2028\U0001f600"}'
    found |= {
        "entry: too long": case(4, "more than 8192 bytes", raw_bundle(long)),
        "entry: longest": case(0, "8192 bytes", one('{"id":"' + "x" * 8183 + '"}')),
        "entry: four levels": case(0, "at most 4", one('{"a":[[[1]]],"id":"a"}')),
        "entry: largest integers": case(
            0, "2^53 - 1", one('{"a":9007199254740991,"b":-9007199254740991,"id":"a"}')
        ),
        "entry: every escape": case(0, "the one form of each character", one(odd)),
        "entry: not in form C": case(
            0, "Unicode form is asked of writers, not of readers", one('{"id":"e\u0301"}')
        ),
        "entry: empty id": case(0, "a string", one('{"id":""}')),
        "entry: constants": case(0, "true, false, null", one('{"a":[true,false,null],"id":"constructor"}')),
        "id twice": case(4, "in one range", bundle_of([b'{"id":"a"}', b'{"id":"b"}', b'{"id":"a","n":1}'])),
        "same entry twice": case(4, "an id stands once", bundle_of([b'{"id":"a"}', b'{"id":"a"}'])),
        "entry with a space": case(4, "base64", line(LINES[9], LINES[9] + " ")),
    }
    return found


def one(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    return bundle_of([data])


def raw_bundle(text: str) -> str:
    good, other = b'{"id":"a"}', text.encode()
    return bundle_of([good]).replace(base64.b64encode(good).decode(), base64.b64encode(other).decode())
