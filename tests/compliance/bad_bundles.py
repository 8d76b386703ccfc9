"""Bundles that are wrong: proofs, signatures and form."""

import base64
import re

from compliance.merkle import root_hash
from compliance.note import MAX_SIZE, Checkpoint, Signature, SignedNote, sign
from tests.compliance import small_log as log
from tests.compliance.small_log import bundle, checkpoint, cosigned

GOOD = bundle()
LINES = GOOD.splitlines()
MISSING = cosigned(checkpoint(20), log.SITES[:3])
NULL = base64.b64encode(bytes(32)).decode()


def line(start: str, text: str | None, count: int = 1) -> str:
    """The bundle with ``count`` of ``text`` for its first line that begins so, or without that line."""
    place = next(i for i, one in enumerate(LINES) if one.startswith(start))
    return "\n".join([*LINES[:place], *([text] * count if text is not None else []), *LINES[place + 1 :], ""])


def encoded(note: SignedNote | str) -> str:
    return base64.b64encode(str(note).encode()).decode()


def last(note: SignedNote | str) -> str:
    return line("checkpoint ", f"checkpoint {encoded(note)}")


def resigned(text: str) -> SignedNote:
    return cosigned(sign(text, log.ORIGIN, log.LOG_KEY))


def flipped(note: SignedNote, place: int) -> SignedNote:
    """One bit of the body of signature ``place``."""
    lines = list(note.signatures)
    body = bytearray(lines[place].body)
    body[-1 if len(body) == 72 else 5] ^= 1
    lines[place] = Signature(lines[place].name, lines[place].key_id, bytes(body))
    return SignedNote(note.text, tuple(lines))


def bundles() -> dict[str, dict[str, object]]:
    return {**unproven(), **beyond(), **signatures(), **cosignatures(), **form(), **notes()}


def case(code: int, why: str, text: str | bytes, **more: object) -> dict[str, object]:
    return {"exit": code, "why": why, "input": text, **more}


def unproven() -> dict[str, dict[str, object]]:
    other = bundle().replace(
        base64.b64encode(log.ENTRIES[4]).decode(), base64.b64encode(log.ENTRIES[5]).decode()
    )
    swapped, disordered = LINES.copy(), LINES.copy()
    swapped[3], swapped[4] = swapped[4], swapped[3]
    disordered[9], disordered[10] = disordered[10], disordered[9]  # the two of the first range, 3 and 4
    return {
        "another entry": case(1, "entry 5 stands where entry 4 is in the log", other),
        "entries swapped": case(
            1, "the order of entries within a range counts", "\n".join([*disordered, ""])
        ),
        "proof hashes swapped": case(1, "the order of the hashes counts", "\n".join([*swapped, ""])),
        "proof hash wrong": case(1, "a hash of zeros", line(LINES[3], NULL)),
        "range moved": case(1, "the same leaves under other indexes", line("range 7 8", "range 8 9 5")),
        "proof too short": case(
            1, "five hashes instead of six", line(LINES[3], None).replace("range 3 5 6", "range 3 5 5")
        ),
        "proof too long": case(
            1, "seven hashes instead of six", line(LINES[3], NULL, 2).replace("range 3 5 6", "range 3 5 7")
        ),
        "proof without left side": case(
            1, "no hashes at all", re.sub(r"range 3 5 6\n(.*\n){6}", "range 3 5 0\n", GOOD)
        ),
    }


def beyond() -> dict[str, dict[str, object]]:
    swapped = LINES.copy()
    swapped[3], swapped[4] = swapped[4], swapped[3]
    stale_head = sign(str(Checkpoint(log.ORIGIN, 9, bytes(32))), log.ORIGIN, log.LOG_KEY)
    return {
        "range behind the end": case(
            1, "leaf 20 of a tree of 20", GOOD.replace("range 19 20 3", "range 20 21 3")
        ),
        "range over the end": case(
            1,
            "two leaves from 19 in a tree of 20",
            GOOD.replace("range 19 20 3", "range 19 21 3").replace(
                "heads 2", f"{base64.b64encode(log.ENTRIES[0]).decode()}\nheads 2"
            ),
        ),
        "root replaced": case(
            1, "well signed, another root", last(resigned(str(Checkpoint(log.ORIGIN, 20, bytes(32)))))
        ),
        "size replaced": case(1, "well signed, another size", last(resigned(str(checkpoint_of(21))))),
        "head of another log": case(
            1, "an older checkpoint with a wrong root, well signed", replaced_head(stale_head)
        ),
        "head of another tree": case(
            1, "peaks give the older root but do not lead to the last", foreign_head()
        ),
        "head proof too long": case(1, "one hash too many", grown_head()),
        "proof and quorum": case(
            1,
            "a bad proof comes before a missing quorum",
            bundle(last=MISSING).replace("range 7 8", "range 8 9"),
        ),
    }


def checkpoint_of(size: int) -> Checkpoint:
    return Checkpoint(log.ORIGIN, size, Checkpoint.parse(checkpoint(20).text).root)


def replaced_head(note: SignedNote) -> str:
    place = [i for i, one in enumerate(LINES) if one.startswith("head ")][1]
    words = LINES[place].split(" ")
    return "\n".join([*LINES[:place], f"head {words[1]} {encoded(note)}", *LINES[place + 1 :], ""])


def foreign_head() -> str:
    hashes = [bytes([n]) * 32 for n in range(9)]
    text = GOOD[: GOOD.index("heads ")]
    proof = [log.SUBTREE(9, 10), log.SUBTREE(10, 12), log.SUBTREE(12, 16), log.SUBTREE(16, 20)]
    lines = [root_hash(hashes[:8]), hashes[8], *proof]
    head = f"head 6 {encoded(checkpoint(9, hashes=hashes))}\n"
    return (
        text
        + "heads 1\n"
        + head
        + "".join(f"{base64.b64encode(h).decode()}\n" for h in lines)
        + LINES[-1]
        + "\n"
    )


def grown_head() -> str:
    place = next(i for i, one in enumerate(LINES) if one.startswith("head "))
    words = LINES[place].split(" ")
    return "\n".join([*LINES[:place], f"head {int(words[1]) + 1} {words[2]}", NULL, *LINES[place + 1 :], ""])


def signatures() -> dict[str, dict[str, object]]:
    good = cosigned(checkpoint(20))
    return {
        "log signature wrong": case(1, "one bit flipped", last(flipped(good, 0))),
        "log signature missing": case(
            1, "cosignatures only", last(SignedNote(good.text, good.signatures[1:]))
        ),
        "log signature twice": case(
            1, "the same line doubled", last(good.with_signatures(good.signatures[:1]))
        ),
        "signed by another key": case(1, "under the name of the log", last(checkpoint(20, by=log.STRANGER))),
        "origin of another log": case(
            1, "a checkpoint of last year's log", last(cosigned(checkpoint(20, origin="north/audit/2025")))
        ),
        "another origin, right key": case(
            1,
            "the log's key signed for a foreign origin",
            last(cosigned(sign(str(Checkpoint("north/audit/2025", 20, bytes(32))), log.ORIGIN, log.LOG_KEY))),
        ),
    }


def cosignatures() -> dict[str, dict[str, object]]:
    good = cosigned(checkpoint(20))
    early = good.signatures[1]
    times = Signature(early.name, early.key_id, (MAX_SIZE).to_bytes(8, "big") + early.body[8:])
    moved = Signature(early.name, early.key_id, (log.LONG_AGO + 1).to_bytes(8, "big") + early.body[8:])
    short = Signature(early.name, early.key_id, early.body[:-1])
    return {
        "cosignature wrong": case(
            1, "one bit of a known witness flipped: refused, not skipped", last(flipped(good, 1))
        ),
        "fifth cosignature wrong": case(
            1, "a quorum without it does not help", last(flipped(cosigned(checkpoint(20), log.SITES), 5))
        ),
        "cosignature for another time": case(1, "the time is signed", last(with_line(good, moved))),
        "cosignature with impossible time": case(1, "2^53 seconds", last(with_line(good, times))),
        "cosignature too short": case(1, "71 bytes", last(with_line(good, short))),
        "cosignature twice, second wrong": case(
            1,
            "every line of a known witness must fit",
            last(good.with_signatures(flipped(good, 1).signatures[1:2])),
        ),
        "cosignature of another checkpoint": case(
            1, "of size 9", last(with_line(good, cosigned(checkpoint(9)).signatures[1]))
        ),
        "S not reduced": case(1, "S + L: another encoding of a fitting signature", last(unreduced(good))),
        "head signature wrong": case(1, "of an older checkpoint", bundle(heads=[flipped(checkpoint(5), 0)])),
        "head cosignature wrong": case(
            1, "of an older checkpoint", bundle(heads=[flipped(cosigned(checkpoint(5)), 1)])
        ),
        "head unsigned by the log": case(
            1, "signed by a stranger", bundle(heads=[checkpoint(5, by=log.STRANGER)])
        ),
    }


def with_line(note: SignedNote, other: Signature) -> SignedNote:
    return SignedNote(note.text, (note.signatures[0], other, *note.signatures[2:]))


def unreduced(note: SignedNote) -> SignedNote:
    first = note.signatures[0]
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(first.body[32:], "little") + order
    line_ = Signature(first.name, first.key_id, first.body[:32] + s.to_bytes(32, "little"))
    return SignedNote(note.text, (line_, *note.signatures[1:]))


def form() -> dict[str, dict[str, object]]:
    return {
        "empty": case(4, "no bytes", b""),
        "rubbish": case(4, "binary", bytes(range(256)) * 4),
        "one line feed": case(4, "nothing else", b"\n"),
        "cut": case(4, "half of the file", GOOD[: len(GOOD) // 2]),
        "last line feed missing": case(4, "each line ends in one", GOOD[:-1]),
        "line behind": case(4, "nothing may stand behind the checkpoint", GOOD + "\n"),
        "text behind": case(4, "without a line feed", GOOD + "x"),
        "checkpoint twice": case(4, "nothing may stand behind the checkpoint", GOOD + LINES[-1] + "\n"),
        "CR LF": case(4, "lines end in one line feed", GOOD.replace("\n", "\r\n")),
        "byte order mark": case(4, "nothing stands before the first line", "\ufeff" + GOOD),
        "other version": case(4, "v2", line("consilium", "consilium-audit-bundle/v2")),
        "upper case": case(4, "words are as they are", line("ranges", "Ranges 3")),
        "empty line": case(4, "between two lines", line("heads", "\nheads 2")),
        "two spaces": case(4, "one space parts words", line("heads", "heads  2")),
        "space behind": case(4, "at the end of a line", line("heads", "heads 2 ")),
        "too few heads": case(4, "three are announced", line("heads", "heads 3")),
        "too many heads": case(4, "one is announced", line("heads", "heads 1")),
        "too few ranges": case(4, "four are announced", line("ranges", "ranges 4")),
        "heads missing": case(4, "the line is never left out", line("heads", None)),
    }


def notes() -> dict[str, dict[str, object]]:
    good = str(cosigned(checkpoint(20)))
    head = good.index("\n\n")
    return {
        "note without signatures": case(4, "a text alone", last(good[: head + 2])),
        "note with a fourth line": case(4, "no extension lines", last(good[:head] + "\nmore" + good[head:])),
        "note without empty line": case(
            4, "text and signatures are parted", last(good.replace("\n\n", "\n"))
        ),
        "note without last line feed": case(4, "each signature line ends", last(good[:-1])),
        "note with a hyphen": case(
            4, "a signature line begins with U+2014", last(good.replace("\u2014", "-"))
        ),
        "note with a control character": case(
            4, "a tab in the origin", last(good.replace("north/audit", "north\taudit"))
        ),
        "note with a wide space": case(
            4, "names are ASCII", last(good + str(Signature("a\u3000b", b"abcd", b"?" * 64)) + "\n")
        ),
        "note with too many lines": case(
            4, "65 signatures", last(good + 60 * (str(Signature("a", b"abcd", b"?" * 64)) + "\n"))
        ),
        "note too long": case(4, "more than 16384 bytes", last(good + f"\u2014 a {'A' * 16384}\n")),
        "note not UTF-8": case(
            4, "bytes", line("checkpoint", "checkpoint " + base64.b64encode(good.encode("gb18030")).decode())
        ),
        "signature line too short": case(4, "four bytes: no signature", last(good + "\u2014 a YWJjZA==\n")),
        "signature base64": case(4, "unused bits are set", last(good + "\u2014 a YWJjZGX=\n")),
        "root too short": case(4, "31 bytes", last(short_root(good))),
        "form before signature": case(
            4,
            "form is judged for the whole file first",
            line("heads", "heads 02").replace("range 7 8", "range 8 9"),
        ),
    }


def short_root(note: str) -> str:
    lines = note.split("\n")
    lines[2] = base64.b64encode(bytes(31)).decode()
    return "\n".join(lines)
