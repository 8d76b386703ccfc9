"""Logs, signed checkpoints and bundles as parts that can be spoilt one by one. Shared by test and proof.

The parts are encoded here once more, straight from ``docs/audit-log.md``: a mutated part must reach the
verifiers even where the product's writer would refuse it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.canonical import canonical_bytes
from compliance.merkle import leaf_hash, range_proof, root_hash, subtree_of
from compliance.note import COSIGNATURE_V1, Checkpoint, Signature, SignedNote, cosign, sign, verifier_key
from compliance.witness_policy import policy_of

NOW = 1_800_000_000
TEXTS = ("admitted", "第三轮已提交", "Zürich", "模型已提升：乳腺细胞学", "naïve “quotes” \\ \n", "🏥", "")
ACTS = ("job.approved", "round.committed", "model.promoted", "prediction.shown", "policy.changed")


def key_of(seed: int) -> Ed25519PrivateKey:
    """The same key for the same number, so that a campaign can be repeated."""
    return Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))


@dataclass
class Range:
    start: int
    proof: list[bytes]
    entries: list[bytes]
    end: int | None = None  # None: as many as there are
    hashes: int | None = None

    def text(self) -> str:
        end = self.start + len(self.entries) if self.end is None else self.end
        hashes = len(self.proof) if self.hashes is None else self.hashes
        return _lines(f"range {self.start} {end} {hashes}", *map(encoded, [*self.proof, *self.entries]))


@dataclass
class Head:
    proof: list[bytes]
    note: SignedNote

    def text(self) -> str:
        return _lines(f"head {len(self.proof)} {encoded_note(self.note)}", *map(encoded, self.proof))


@dataclass
class Parts:
    ranges: list[Range]
    heads: list[Head]
    last: SignedNote

    def data(self) -> bytes:
        ranges = "".join(one.text() for one in self.ranges)
        heads = "".join(one.text() for one in self.heads)
        return (
            f"consilium-audit-bundle/v1\nranges {len(self.ranges)}\n{ranges}"
            f"heads {len(self.heads)}\n{heads}checkpoint {encoded_note(self.last)}\n"
        ).encode()

    def copy(self) -> "Parts":
        ranges = [replace(one, proof=[*one.proof], entries=[*one.entries]) for one in self.ranges]
        return Parts(ranges, [Head([*one.proof], one.note) for one in self.heads], self.last)


@dataclass
class Log:
    """A log with its keys; ``entries`` may be replaced by others, then ``leaves`` follow."""

    number: int
    sites: int
    entries: list[bytes]
    origin: str = "heart/audit/2026"
    leaves: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leaves = [leaf_hash(entry) for entry in self.entries]
        self.key = key_of(1 + self.number * 100)
        self.witness_keys = {f"site-{i}": key_of(2 + i + self.number * 100) for i in range(self.sites)}
        keys = {name: self.witness_key(name) for name in self.witness_keys}
        self.policy = policy_of(verifier_key(self.origin, self.key), keys)
        self.quorum = self.policy.groups["sites"][0] if keys else 0

    def witness_key(self, name: str):
        return verifier_key(witness_name(name), self.witness_keys[name], COSIGNATURE_V1)

    def text(self, size: int, root: bytes | None = None) -> str:
        return str(Checkpoint(self.origin, size, root_hash(self.leaves[:size]) if root is None else root))

    def signed(self, size: int, names: Sequence[str] = (), *, time: int = NOW) -> SignedNote:
        return self.cosigned(sign(self.text(size), self.origin, self.key), names, time=time)

    def cosigned(self, note: SignedNote, names: Sequence[str], *, time: int = NOW) -> SignedNote:
        return note.with_signatures(self.cosignature(note.text, name, time=time) for name in names)

    def cosignature(self, text: str, name: str, *, time: int = NOW) -> Signature:
        return cosign(text, witness_name(name), self.witness_keys[name], time)

    def names(self, count: int | None = None) -> list[str]:
        return list(self.witness_keys)[: self.quorum if count is None else count]

    def parts(self, spans: Sequence[tuple[int, int]], heads: Sequence[int] = (), size: int = 0) -> Parts:
        """Ranges ``spans`` and older heads of these sizes, under a checkpoint with exactly the quorum."""
        size = size or len(self.entries)
        subtree = subtree_of(self.leaves)
        ranges = [Range(a, range_proof(subtree, a, b, size), self.entries[a:b]) for a, b in spans]
        older = [Head(range_proof(subtree, n, n, size), self.signed(n)) for n in heads]
        return Parts(ranges, older, self.signed(size, self.names()))


def witness_name(site: str) -> str:
    return f"heart/{site}/witness"


def entry_of(index: int, rng: np.random.Generator, **more: object) -> bytes:
    text = TEXTS[rng.integers(len(TEXTS))]
    value = {
        "v": 1,
        "id": f"01k{index:06d}{rng.integers(2**40):010x}",
        "ts": f"2026-11-{1 + index % 30:02d}T08:00:00.{index:06d}Z",
        "act": ACTS[rng.integers(len(ACTS))],
        "out": "ok",
        "actor": {"id": f"person-{rng.integers(9)}", "roles": ["auditor", text]},
        "data": {"note": text * int(rng.integers(3)), "round": int(rng.integers(2**53 - 1))},
    }
    return canonical_bytes({**value, **more})


def log_of(number: int, size: int, sites: int, rng: np.random.Generator) -> Log:
    return Log(number, sites, [entry_of(index, rng) for index in range(size)])


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def encoded_note(note: SignedNote | str | bytes) -> str:
    return encoded(note if isinstance(note, bytes) else str(note).encode())


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)
