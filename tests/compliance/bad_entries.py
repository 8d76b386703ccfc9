"""Proofs of one entry."""

import base64

from compliance.merkle import leaf_hash, node_hash
from compliance.note import Checkpoint, sign
from tests.compliance import small_log as log
from tests.compliance.bad_bundles import flipped
from tests.compliance.small_log import ENTRIES, checkpoint, cosigned, proof

NULL = base64.b64encode(bytes(32)).decode()


def case(
    code: int, why: str, text: str | bytes, entry: bytes = ENTRIES[7], **more: object
) -> dict[str, object]:
    return {"exit": code, "why": why, "input": text, "entry": entry, **more}


def entries() -> dict[str, dict[str, object]]:
    return {**proofs(), **malformed()}


def proofs() -> dict[str, dict[str, object]]:
    good = proof(7)
    lines = good.split("\n")
    single = cosigned(checkpoint(1))
    small = cosigned(checkpoint(20), log.SITES[:3])
    found = {
        f"leaf {index}": case(0, "of twenty", proof(index), ENTRIES[index]) for index in (0, 7, 15, 16, 19)
    }
    found |= {
        "one leaf": case(0, "no hash is needed", proof(0, single), ENTRIES[0], complete=True),
        "one of twenty is not all": case(3, "asked to be complete", good, complete=True),
        "stale": case(5, "co-signed in 2001", good, max_age=60),
        "quorum missing": case(2, "three of five", proof(7, small)),
        "another entry": case(1, "of the same log", good, ENTRIES[8]),
        "another index": case(1, "6 instead of 7", good.replace("index 7", "index 6")),
        "index behind the end": case(1, "20 of 20", good.replace("index 7", "index 20")),
        "hash missing": case(1, "the first", "\n".join([*lines[:2], *lines[3:]])),
        "hash too many": case(1, "the first is doubled", "\n".join([*lines[:3], *lines[2:]])),
        "hashes swapped": case(
            1, "the order counts", "\n".join([*lines[:2], lines[3], lines[2], *lines[4:]])
        ),
        "no hashes": case(1, "none for twenty leaves", "\n".join([*lines[:2], *lines[7:]])),
        "hash for one leaf": case(
            1, "too many", proof(0, single).replace("index 0\n", f"index 0\n{NULL}\n"), ENTRIES[0]
        ),
        "empty tree": case(1, "no leaf can be in it", f"{lines[0]}\nindex 0\n\n{cosigned(checkpoint(0))}"),
        "a node for a leaf": case(4, "an inner node is no entry", *node_as_leaf()),
        "signature wrong": case(1, "one bit", proof(7, flipped(cosigned(checkpoint(20)), 0))),
    }
    return found


def malformed() -> dict[str, dict[str, object]]:
    good = proof(7)
    lines = good.split("\n")
    return {
        "other title": case(4, "v2", good.replace("@v1", "@v2")),
        "extra line": case(4, "this log has none", good.replace("index", "extra YQ==\nindex")),
        "index missing": case(4, "the second line", good.replace("index 7\n", "")),
        "index with leading zero": case(4, "decimal", good.replace("index 7", "index 07")),
        "index too large": case(4, "2^53", good.replace("index 7", f"index {2**53}")),
        "empty line missing": case(4, "before the checkpoint", good.replace("\n\n", "\n", 1)),
        "hash too short": case(4, "31 bytes", good.replace(lines[2], base64.b64encode(bytes(31)).decode())),
        "hash base64": case(4, "unused bits are set", good.replace(lines[2], NULL[:-2] + "B=")),
        "too many hashes": case(4, "54", good.replace("index 7\n", "index 7\n" + f"{NULL}\n" * 54)),
        "no checkpoint": case(4, "nothing behind the empty line", good[: good.index("\n\n") + 2]),
        "bytes behind": case(4, "an empty line at the end", good + "\n"),
        "CR LF": case(4, "line feeds", good.replace("\n", "\r\n")),
        "empty": case(4, "no bytes", b""),
        "entry not canonical": case(4, "spaces", good, b'{"id": "a"}'),
        "entry empty": case(4, "no bytes", good, b""),
        "entry too long": case(4, "more than 8192 bytes", good, b'{"id":"' + b"x" * 8192 + b'"}'),
        "form before signature": case(4, "form first", proof(7, flipped(cosigned(checkpoint(20)), 0)), b"{}"),
    }


def node_as_leaf() -> tuple[str, bytes]:
    """The second preimage that the prefixes of RFC 6962 prevent: 0x01 ‖ left ‖ right as an entry."""
    left, right = leaf_hash(ENTRIES[0]), leaf_hash(ENTRIES[1])
    note = cosigned(sign(str(Checkpoint(log.ORIGIN, 1, node_hash(left, right))), log.ORIGIN, log.LOG_KEY))
    return f"c2sp.org/tlog-proof@v1\nindex 0\n\n{note}", b"\x01" + left + right
