#!/usr/bin/env python3
"""Check, offline and with nothing but Python (3.8 or newer), what an audit log gave you.

    python3 verify.py BUNDLE --policy policy.txt [--complete] [--max-age SECONDS] [--json] [--lang zh|en]
    python3 verify.py --entry ENTRY PROOF --policy policy.txt
    python3 verify.py --evidence FILE --policy policy.txt

Exit: 0 verified, 1 bad proof or signature, 2 quorum missing, 3 incomplete, 4 malformed, 5 stale; of evidence:
0 the log contradicts itself, 1 not proven. Take the policy from your own hospital, not with the bundle.
"""

from __future__ import annotations

import argparse
import binascii
import hashlib
import json
import os
import re
import sys
import time
from itertools import chain, islice, repeat
from typing import Any, BinaryIO, Iterable, Iterator, Tuple

MAX_ENTRY, MAX_NOTE, MAX_POLICY, MAX_LINE, MAX_NUMBER = 8192, 16384, 65536, 32768, 2**53
MAX_HASHES, MAX_DEPTH, MAX_WITNESSES, MAX_GROUPS, MAX_TIME = 106, 4, 32, 32, 253402300799  # the year 9999
NUMBER, BASE64, NAME = r"(?:0|[1-9][0-9]{0,15})", r"[A-Za-z0-9+/]+=*", r"[!-*,-~]{1,128}"
NOTE = re.compile(rf"(({NAME})\n({NUMBER})\n({BASE64})\n)\n((?:— {NAME} {BASE64}\n){{1,64}})".encode())
WORD, FIELD = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/-]{0,126}"), re.compile(r"[a-z][a-z0-9_]{0,31}")
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
EXIT = {"verified": 0, "bad": 1, "quorum": 2, "incomplete": 3, "malformed": 4, "stale": 5,
        "proven": 0, "unproven": 1}  # fmt: skip
TEXTS = {
    "verified": ("Verified.", "验证通过。"),
    "bad": ("NOT verified: a proof or a signature is wrong.", "验证未通过：证明或签名有误。"),
    "quorum": ("NOT verified: too few witnesses have co-signed.", "验证未通过：联署的见证方不足。"),
    "incomplete": ("Correct, but not the whole log.", "内容正确，但不是完整日志。"),
    "malformed": ("NOT verified: the input is malformed.", "验证未通过：输入格式有误。"),
    "stale": ("Correct, but co-signed by too few of late.", "内容正确，但近期联署不足。"),
    "proven": ("Proven: this log contradicts itself.", "已证实：该日志自相矛盾。"),
    "unproven": ("NOT proven: these checkpoints convict no log.", "未能证实：这两个检查点不构成矛盾。"),
    "range": ("Entries {} to {} do not lead to the root.", "第 {} 至 {} 条不能推导出根哈希。"),
    "head": ("The checkpoint of size {} is no beginning of this log.", "大小 {} 的检查点不是该日志的开头。"),
    "signature": ("At size {} the signature of {} does not fit.", "大小 {} 处 {} 的签名无效。"),
    "file": ("{} cannot be read: {}.", "无法读取 {}：{}。"),
    "form": ("Line {}: expected {}.", "第 {} 行：应为 {}。"),
    "rows": ("log|root|shown|not shown|co-signed|not signed", "日志|根|已展示|未展示|已联署|未联署"),
    "limits": ("This shows that entries stand in the log unchanged; not that they are true, or complete.",
               "以上说明条目原样在日志中；不说明其属实，也不说明所有事项均已记录。"),
}  # fmt: skip


class Malformed(Exception):  # noqa: N818 - a verdict
    """The input breaks a rule of form: key of the sentence, then what stands in it."""


def need(fits: object, expected: str) -> None:
    if not fits:
        raise Malformed("form", expected)


# Ed25519 (RFC 8032) without cofactor. Where libraries differ this one refuses: small order, second encodings.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
BASE_X, BASE_Y = 0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A, 4 * pow(5, P - 2, P) % P
D, ROOT = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)
Point = Tuple[int, int, int, int]  # X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z


def add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    return (b - a) * (d - c) % P, (d + c) * (b + a) % P, (d - c) * (d + c) % P, (b - a) * (b + a) % P


def multiply(number: int, p: Point) -> Point:
    total = (0, 1, 1, 0)
    while number:
        total = add(total, p) if number & 1 else total
        p, number = add(p, p), number >> 1
    return total


def point(data: bytes) -> Point | None:
    """None for bytes that are not a point's one encoding, and for the eight points of small order."""
    whole = int.from_bytes(data, "little")
    sign, y = whole >> 255, whole & 2**255 - 1
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    x = x if v * x * x % P == u else x * ROOT % P
    x = x if x & 1 == sign else P - x
    found = (x, y, 1, x * y % P)
    return found if y < P and v * x * x % P == u and multiply(8, found)[0] else None


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    a, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L or len(signature) != 64:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = multiply(s, (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)), add(r, multiply(k, a))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


def number(text: bytes) -> int:
    need(re.fullmatch(NUMBER.encode(), text) and int(text) < MAX_NUMBER, "0 … 2^53-1")
    return int(text)


def base64(text: bytes, least: int, most: int) -> bytes:
    """The value, of ``least`` to ``most`` bytes, of its one encoding."""
    try:
        data = binascii.a2b_base64(text)
    except ValueError:
        data = b""
    need(binascii.b2a_base64(data, newline=False) == text and least <= len(data) <= most, "BASE64")
    return data


class Policy:
    """C2SP tlog-policy: one log, its witnesses, whose cosignatures are needed."""

    def __init__(self, data: bytes, facts: dict[str, Any]) -> None:
        self.log, self.quorum = ("", b"", b""), ""
        self.witnesses: dict[str, tuple[str, bytes, bytes]] = {}
        self.groups: dict[str, tuple[int, set[str]]] = {}
        self.free: set[str] = set()  # names that are in no group yet
        need(len(data) <= MAX_POLICY and not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", data), "a policy")
        for facts["line"], line in enumerate(data.decode("latin-1").split("\n"), start=1):
            words = [word for word in re.split("[ \t]", line) if word]
            if words and words[0][0] != "#":
                self.take(words[0], words[1:])
        keys = [key for _, _, key in (self.log, *self.witnesses.values())]
        need(self.log[0] and self.quorum and len(set(keys)) == len(keys), "one log, one quorum, no key twice")

    def take(self, kind: str, words: list[str]) -> None:
        count, names = len(words), {"none", *self.witnesses, *self.groups}
        new = count > 1 and WORD.fullmatch(words[0]) and words[0] not in names
        if kind == "log" and count in (1, 2) and not self.log[0]:
            self.log = self.key(words[0], 1)
        elif kind == "quorum" and count == 1 and words[0] in names and not self.quorum:
            self.quorum = words[0]
        elif kind == "witness" and count in (2, 3) and new and len(self.witnesses) < MAX_WITNESSES:
            self.witnesses[words[0]] = self.key(words[1], 4)
            self.free.add(words[0])
        elif kind == "group" and count > 2 and new and len(self.groups) < MAX_GROUPS:
            members, free = set(words[2:]), self.free
            least = {"any": 1, "all": count - 2}.get(words[1]) or number(words[1].encode("latin-1"))
            need(members <= free and 1 <= least <= len(members) == count - 2, "group NAME N MEMBER…")
            self.groups[words[0]], self.free = (least, members), free - members | {words[0]}
        else:
            raise Malformed("form", "log KEY | witness NAME KEY | group NAME N MEMBER… | quorum NAME")

    def key(self, text: str, kind: int) -> tuple[str, bytes, bytes]:
        name, key_id, encoded = [*text.split("+", 2), "", ""][:3]
        raw = base64(encoded.encode("latin-1"), 33, 33)
        right = hashlib.sha256(name.encode("latin-1") + b"\n" + raw).digest()[:4]
        need(re.fullmatch(NAME, name) and raw[0] == kind and key_id == right.hex(), f"NAME+ID+KEY ({kind})")
        return name, right, raw[1:]

    def is_met_by(self, signed: Iterable[str]) -> bool:
        met = {"none", *signed}
        for name, (least, members) in self.groups.items():  # a group stands behind its members
            met |= {name} if len(met & members) >= least else set()
        return self.quorum in met


class Note:
    """A signed checkpoint; reading it asks for its form only."""

    def __init__(self, encoded: bytes) -> None:
        found = NOTE.fullmatch(base64(encoded, 1, MAX_NOTE))
        if found is None:
            raise Malformed("form", "SIGNED CHECKPOINT")
        self.text, origin, size, root, tail = found.groups()
        self.origin, self.size, self.root = origin.decode(), number(size), base64(root, 32, 32)
        words = map(bytes.split, tail.splitlines())
        self.lines = [(name.decode(), base64(raw, 5, MAX_NOTE)) for _, name, raw in words]

    def fault(self, policy: Policy, signed: dict[str, int]) -> tuple[object, ...]:
        """What is wrong with the signatures, or nothing; fills witness → second of its cosignature."""
        for who, (name, key_id, public) in (("", policy.log), *policy.witnesses.items()):
            found = [raw[4:] for signer, raw in self.lines if (signer, raw[:4]) == (name, key_id)]
            fits = who or (self.origin == name and len(found) == 1)
            for raw in found:
                second, body = (int.from_bytes(raw[:8], "big"), raw[8:]) if who else (0, raw)
                text = b"cosignature/v1\ntime %d\n" % second + self.text if who else self.text
                fits = fits and second < MAX_NUMBER and is_signed(public, text, body)
                signed.update({who: signed.get(who, second)} if who else {})
            if not fits:
                return "signature", self.size, name
        return ()

    def goes_on_from(self, first: Note, proof: list[bytes]) -> bool | None:
        """Whether it begins with ``first``; None when the proof does not even lead to its own root."""
        peaks = proof[: bin(first.size).count("1")]
        leads = root_of_range(first.size, (), self.size, proof) == self.root
        return root_of_range(first.size, (), first.size, peaks) == first.root if leads else None


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of_range(start: int, leaves: Iterable[bytes], size: int, proof: list[bytes]) -> bytes | None:
    """The root that these leaf hashes lead to; None for a proof of a wrong number. Takes all ``leaves``."""
    left, place = bin(start).count("1"), start
    peaks = [*proof, *[b""] * left][:left]  # the full subtrees, tallest first
    for digest, width in chain(zip(leaves, repeat(1)), zip(proof[left:], repeat(0))):
        if place >= size and not width:
            return None
        width = width or 1 << min((place & -place) or size, size - place).bit_length() - 1  # the largest
        behind, place = place // width, place + width
        while behind & 1:
            digest, behind = node(peaks.pop(), digest), behind >> 1
        peaks.append(digest)
    digest = peaks.pop() if peaks else hashlib.sha256().digest()
    while peaks:
        digest = node(peaks.pop(), digest)
    return digest if place == size and len(proof) >= left else None


def root_of_leaf(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    """RFC 6962, 2.1.1, from the top: in which half is the leaf? None for a proof of a wrong number."""
    if size < 2 or not proof:
        return leaf if (index, size) == (0, 1) and not proof else None
    half = 1 << (size - 1).bit_length() - 1
    inside = (index, half) if index < half else (index - half, size - half)
    below = root_of_leaf(leaf, *inside, proof[:-1])
    return below and (node(below, proof[-1]) if index < half else node(proof[-1], below))


class Check:
    """One file against one policy. Of each id 16 bytes of its digest are kept, in 256 heaps by the first."""

    def __init__(self, file: BinaryIO, policy: Policy, facts: dict[str, Any]) -> None:
        self.file, self.policy, self.facts = file, policy, facts
        self.heaps = [bytearray() for _ in range(256)]
        self.fault: tuple[object, ...] = ()
        facts.update(line=0, entries=0, ranges=[], older=0, cosigned={})

    def fields(self, word: str, *counts: int) -> list[bytes]:
        line, self.facts["line"] = self.file.readline(MAX_LINE), self.facts["line"] + 1
        found = line[:-1].split(b" ")
        fits = line[-1:] == b"\n" and (not word or found.pop(0) == word.encode()) and len(found) in counts
        need(fits, f"{word} …")
        return found

    def hashes(self, count: int) -> list[bytes]:
        need(count <= MAX_HASHES, f"<= {MAX_HASHES}")
        return [base64(self.fields("", 1)[0], 32, 32) for _ in range(count)]

    def leaf(self, data: bytes) -> bytes:
        try:
            text = data.decode()
            value = json.loads(text)
            fits = len(data) <= MAX_ENTRY and CANONICAL(value) == text and self.is_plain(value, 0)
            fits = fits and isinstance(value, dict) and isinstance(value.get("id"), str)
        except (ValueError, RecursionError):
            fits = False
        need(fits, "canonical JSON with an id")
        digest = hashlib.sha256(value["id"].encode()).digest()
        self.heaps[digest[0]] += digest[:16]
        return hashlib.sha256(b"\x00" + data).digest()

    def is_plain(self, value: Any, depth: int) -> bool:
        if isinstance(value, (dict, list)):
            inside = value.values() if isinstance(value, dict) else value
            names = inside is value or all(map(FIELD.fullmatch, value))
            return names and depth < MAX_DEPTH and all(self.is_plain(one, depth + 1) for one in inside)
        return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < MAX_NUMBER)

    def bundle(self) -> None:
        self.file.seek(max(0, self.file.seek(0, os.SEEK_END) - MAX_LINE))
        tail, border = self.file.read(MAX_LINE).split(b"\n")[-2:][0], -1
        last = Note(tail[len("checkpoint ") :])  # needed before the others
        self.file.seek(0)
        self.fields("consilium-audit-bundle/v1", 0)
        ranges = number(self.fields("ranges", 1)[0])
        need(ranges, "ranges 1 …")
        for _ in range(ranges):
            start, end, count = map(number, self.fields("range", 3))
            need(border < start < end, f"range > {border}")
            proof, border = self.hashes(count), end
            leaves = (self.leaf(base64(self.fields("", 1)[0], 0, MAX_ENTRY)) for _ in range(end - start))
            if root_of_range(start, leaves, last.size, proof) != last.root:
                self.fault = self.fault or ("range", start, end - 1)
            self.facts["entries"] += end - start
            self.facts["ranges"] = [*self.facts["ranges"], [start, end - 1]][:20]
        self.facts["older"], border = number(self.fields("heads", 1)[0]), -1
        for _ in range(self.facts["older"]):
            hashes, encoded = self.fields("head", 2)
            head, proof = Note(encoded), self.hashes(number(hashes))
            need(border < head.size < last.size, f"head > {border}, < {last.size}")
            border, goes_on = head.size, last.goes_on_from(head, proof)
            self.fault = self.fault or (head.fault(self.policy, {}) if goes_on else ("head", head.size))
        self.conclude(Note(self.fields("checkpoint", 1)[0]))
        for heap in self.heaps:
            ids = {bytes(heap[i : i + 16]) for i in range(0, len(heap), 16)}
            need(len(ids) * 16 == len(heap), "no id twice")

    def entry(self, data: bytes) -> None:
        self.fields("c2sp.org/tlog-proof@v1", 0)
        index = number(self.fields("index", 1)[0])
        lines = list(islice(iter(lambda: self.fields("", 1)[0], b""), MAX_HASHES))
        need(len(lines) <= MAX_HASHES // 2, f"<= {MAX_HASHES // 2}")
        proof = [base64(line, 32, 32) for line in lines]
        last = Note(binascii.b2a_base64(self.file.read(MAX_NOTE + 1), newline=False))
        self.facts.update(entries=1, ranges=[[index, index]])
        self.conclude(last)
        if root_of_leaf(self.leaf(data), index, last.size, proof) != last.root:
            self.fault = self.fault or ("range", index, index)

    def evidence(self) -> bool:
        """Whether the two checkpoints contradict each other; whether the log signed them is in ``fault``."""
        self.fields("consilium-audit-evidence/v1", 0)
        kind, *count = self.fields("", 1, 2)
        need(kind == (b"rewrite" if count else b"split"), "split | rewrite N")
        proof = self.hashes(number(count[0])) if count else []
        first, second = (Note(self.fields("checkpoint", 1)[0]) for _ in range(2))
        self.policy.witnesses.clear()  # the log convicts itself; whatever others signed does not matter
        self.fault = first.fault(self.policy, {})
        self.conclude(second)
        if count:
            return first.size < second.size and second.goes_on_from(first, proof) is False
        return first.size == second.size and first.root != second.root

    def conclude(self, last: Note) -> None:
        need(not self.file.read(1), "EOF")
        self.fault = self.fault or last.fault(self.policy, self.facts["cosigned"])
        root = binascii.b2a_base64(last.root)[:-1].decode()
        self.facts.update(origin=last.origin, size=last.size, root=root)
        self.facts["missing"] = sorted(set(self.policy.witnesses) - set(self.facts["cosigned"]))


def verdict_of(asked: argparse.Namespace, facts: dict[str, Any]) -> str:
    with open(asked.policy, "rb") as rules:
        policy = Policy(rules.read(MAX_POLICY + 1), facts)
    with open(asked.files[-1], "rb") as file, open(asked.files[0], "rb") as data:
        check = Check(file, policy, facts)
        if asked.evidence:
            return "proven" if check.evidence() and not check.fault else "unproven"
        if asked.entry:
            check.entry(data.read(MAX_ENTRY + 1))
        else:
            check.bundle()
    facts.update(complete=facts["entries"] == facts["size"], reason=check.fault)
    fresh = [name for name, at in facts["cosigned"].items() if time.time() - at <= (asked.max_age or 0)]
    holds = {
        "bad": check.fault,
        "quorum": not policy.is_met_by(facts["cosigned"]),
        "incomplete": asked.complete and not facts["complete"],
        "stale": asked.max_age is not None and not (fresh and policy.is_met_by(fresh)),
    }
    return next((verdict for verdict in holds if holds[verdict]), "verified")


def report(verdict: str, facts: dict[str, Any], language: int) -> Iterator[str]:
    key, *said = facts["reason"] or ("",)
    yield TEXTS[verdict][language] + (" " + TEXTS[key][language].format(*said) if key else "")
    if verdict in ("malformed", "proven", "unproven"):
        return
    shown = ", ".join(f"{first}–{last}" for first, last in facts["ranges"])
    times = {name: time.gmtime(min(second, MAX_TIME)) for name, second in facts["cosigned"].items()}
    signed = ", ".join(time.strftime(f"{name} (%Y-%m-%d %H:%M:%S UTC)", at) for name, at in times.items())
    size, count, missing = facts["size"], facts["entries"], ", ".join(facts["missing"])
    rows = facts["origin"], f"{facts['root']} ({size})", f"{count} ({shown})", size - count, signed, missing
    for place, label in enumerate(TEXTS["rows"][language].split("|")):
        yield f"    {label}: {'-' if rows[place] == '' else rows[place]}"
    yield TEXTS["limits"][language]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    for name in ("--entry", "--evidence", "--complete", "--json"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--policy", metavar="FILE", required=True)
    parser.add_argument("--max-age", type=int, metavar="SECONDS")
    parser.add_argument("--lang", choices=("en", "zh"), default=os.environ.get("LANG", "")[:2])
    facts: dict[str, Any] = {"line": 0, "reason": ()}
    try:
        asked = parser.parse_args(arguments)
        if len(asked.files) != 1 + asked.entry or (asked.entry and asked.evidence):
            parser.error("one FILE, or ENTRY and PROOF behind --entry")
        verdict = verdict_of(asked, facts)
    except Malformed as error:
        verdict, facts = "malformed", {"reason": (error.args[0], facts["line"], *error.args[1:])}
    except OSError as error:
        verdict, facts = "malformed", {"reason": ("file", error.filename, error.strerror)}
    except SystemExit as stop:  # argparse: --help, or it has said what is wrong
        return 4 if stop.code else 0
    facts["report"] = list(report(verdict, facts, int(asked.lang == "zh")))
    said = {"verdict": verdict, "exit": EXIT[verdict], **facts}
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    print(json.dumps(said) if asked.json else "\n".join(facts["report"]))
    return EXIT[verdict]


if __name__ == "__main__":
    sys.exit(main())
