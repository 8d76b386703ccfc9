"""Evidence of contradictions, proven and not."""

import base64

from compliance.evidence_file import Evidence, evidence_of
from compliance.merkle import consistency_proof, leaf_hash, range_proof, subtree_of
from compliance.note import Checkpoint, SignedNote, sign
from tests.compliance import small_log as log
from tests.compliance.bad_bundles import encoded, flipped
from tests.compliance.small_log import HASHES, SUBTREE, checkpoint, cosigned

CHANGED = [*HASHES[:3], leaf_hash(b"rewritten"), *HASHES[4:]]
PLAIN = f"log {log.LOG}\nquorum none\n"
NULL = base64.b64encode(bytes(32)).decode()


def case(code: int, why: str, text: object) -> dict[str, object]:
    data = text if isinstance(text, bytes) else str(text)
    return {"exit": code, "why": why, "input": data, "policy": PLAIN}


def evidence() -> dict[str, dict[str, object]]:
    return {**proofs(), **malformed()}


def proofs() -> dict[str, dict[str, object]]:
    old, new, other = checkpoint(9), checkpoint(20), checkpoint(20, hashes=CHANGED)
    split, rewrite = evidence_of(new, other), evidence_of(old, other, subtree_of(CHANGED))
    honest = rewrite_text(old, new, SUBTREE)
    nonsense = sign(str(Checkpoint(log.ORIGIN, 0, bytes(32))), log.ORIGIN, log.LOG_KEY)
    empty = str(evidence_of(nonsense, new, SUBTREE))
    return {
        "split": case(0, "two roots of one size", split),
        "rewrite": case(0, "size 20 does not begin with size 9", rewrite),
        "cosigned": case(0, "cosignatures do not matter", evidence_of(cosigned(new), cosigned(other))),
        "wrong cosignature": case(
            0, "whatever others signed does not matter", evidence_of(new, flipped(cosigned(other), 1))
        ),
        "root of nothing": case(0, "size 0 has one root only", empty),
        **{f"rewrite from {size}": _rewrite_from(size) for size in (4, 8, 16, 19)},
        "consistency proof": case(
            1, "RFC 6962's proof leaves out what convicts", _consistency_instead(16, other)
        ),
        "honest growth from a power of two": case(
            1, "size 20 begins with size 16", rewrite_text(checkpoint(16), new, SUBTREE)
        ),
        "same checkpoint": case(1, "one checkpoint twice", Evidence(new, new)),
        "split of sizes": case(1, "other sizes are no split", Evidence(old, new)),
        "honest growth": case(1, "size 20 begins with size 9", honest),
        "rewrite of one size": case(1, "equal sizes are a split", Evidence(new, other, ())),
        "rewrite backwards": case(1, "the smaller stands first", Evidence(other, old, rewrite.proof)),
        "proof of the wrong tree": case(
            1, "does not lead to the second root", Evidence(old, new, rewrite.proof)
        ),
        "proof too short": case(1, "a hash is missing", Evidence(old, other, rewrite.proof[:-1])),
        "proof too long": case(1, "a hash too many", Evidence(old, other, (*rewrite.proof, bytes(32)))),
        "first not signed": case(1, "by a stranger", evidence_of(checkpoint(20, by=log.STRANGER), other)),
        "second not signed": case(1, "one bit", evidence_of(new, flipped(other, 0))),
        "other log": case(
            1,
            "the origin is another",
            evidence_of(*(checkpoint(20, hashes=h, origin="north/audit/2025") for h in (HASHES, CHANGED))),
        ),
    }


def _rewrite_from(size: int) -> dict[str, object]:
    """Also of sizes of which the old root is the only peak, and of the last but one."""
    found = evidence_of(checkpoint(size), checkpoint(20, hashes=CHANGED), subtree_of(CHANGED))
    return case(0, f"size 20 does not begin with size {size}", found)


def _consistency_instead(size: int, other: SignedNote) -> Evidence:
    proof = tuple(consistency_proof(subtree_of(CHANGED), size, 20))
    return Evidence(checkpoint(size), other, proof)


def malformed() -> dict[str, dict[str, object]]:
    old, new, other = checkpoint(9), checkpoint(20), checkpoint(20, hashes=CHANGED)
    split, rewrite = evidence_of(new, other), evidence_of(old, other, subtree_of(CHANGED))
    text = str(rewrite)
    lines = text.split("\n")
    return {
        "other title": case(4, "v2", text.replace("/v1", "/v2")),
        "other kind": case(4, "fork", text.replace("rewrite", "fork")),
        "split with a number": case(4, "no number", str(split).replace("split", "split 0")),
        "rewrite without a number": case(4, "a number", text.replace(lines[1], "rewrite")),
        "hashes missing": case(4, "fewer than announced", text.replace(f"{lines[2]}\n", "")),
        "hashes too many": case(4, "more than announced", text.replace(lines[2], f"{NULL}\n{lines[2]}")),
        "hash too short": case(4, "31 bytes", text.replace(lines[2], base64.b64encode(bytes(31)).decode())),
        "too many hashes": case(4, "107", rewrite_lines(107, old, other)),
        "one checkpoint": case(4, "two are asked for", "\n".join([*lines[:-2], ""])),
        "three checkpoints": case(4, "two are asked for", text + lines[-2] + "\n"),
        "text behind": case(4, "nothing stands behind", text + "x"),
        "last line feed missing": case(4, "each line ends in one", text[:-1]),
        "checkpoint malformed": case(4, "no note", text.replace(lines[-2], f"checkpoint {encoded('hello')}")),
        "checkpoint not base64": case(4, "a space within", text.replace(lines[-2], lines[-2] + " ")),
        "empty": case(4, "no bytes", b""),
        "rubbish": case(4, "bytes", bytes(range(256))),
    }


def rewrite_text(old: SignedNote, new: SignedNote, subtree) -> Evidence:
    sizes = [Checkpoint.parse(note.text).size for note in (old, new)]
    return Evidence(old, new, tuple(range_proof(subtree, sizes[0], sizes[0], sizes[1])))


def rewrite_lines(count: int, old: SignedNote, new: SignedNote) -> str:
    return str(Evidence(old, new, (bytes(32),) * count))
