"""A log in memory that can be forked, with the key of its own; and witnesses of it."""

import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.merkle import leaf_hash, range_proof, root_hash, subtree_of
from compliance.note import Checkpoint, sign, verifier_key
from compliance.witness import Witness, WitnessState

ORIGIN = "fed/audit/2026"


class Log:
    """Leaves with a key. A fork has the same key: it is the log's own second history."""

    def __init__(
        self, leaves: Sequence[bytes] = (), key: Ed25519PrivateKey | None = None, origin: str = ORIGIN
    ) -> None:
        self.leaves, self.key, self.origin = list(leaves), key or Ed25519PrivateKey.generate(), origin

    @property
    def size(self) -> int:
        return len(self.leaves)

    def grown(self, count: int) -> "Log":
        self.leaves += [leaf_hash(secrets.token_bytes(8)) for _ in range(count)]
        return self

    def fork(self, kept: int) -> "Log":
        """A log of the same size that shares the first ``kept`` leaves."""
        return Log(self.leaves[:kept], self.key, self.origin).grown(self.size - kept)

    def note(self, size: int | None = None, key: Ed25519PrivateKey | None = None) -> str:
        size = self.size if size is None else size
        text = str(Checkpoint(self.origin, size, root_hash(self.leaves[:size])))
        return str(sign(text, self.origin, key or self.key))

    def proof(self, old: int, size: int | None = None) -> list[bytes]:
        size = self.size if size is None else size
        return range_proof(subtree_of(self.leaves), old, old, size) if old <= size else []


class MemoryStore:
    """A store of a witness without a disk."""

    def __init__(self) -> None:
        self.state = WitnessState(ORIGIN)

    def read(self) -> WitnessState:
        return self.state

    def replace(self, old: WitnessState, new: WitnessState) -> bool:
        if self.state != old:
            return False
        self.state = new
        return True


def witness_of(
    log: Log, store: MemoryStore, key: Ed25519PrivateKey | None = None, site: str = "site-a"
) -> Witness:
    log_key = verifier_key(ORIGIN, log.key)
    return Witness(log_key, f"fed/{site}/witness", key or Ed25519PrivateKey.generate(), store, lambda: 1000.5)
