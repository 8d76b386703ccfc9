"""An exercise on a copy: somebody with every right on the database and the log's key rewrites the past.

Each trial copies the log into a database of its own, takes the triggers away, rewrites rows with SQL, lets
the log live on, signs with a stolen key and shows the result to the witnesses. Nothing here touches the log
itself or the key of its signer.
"""

import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.drill_attacks import ATTACKS, copy_of, grow, leaves_of, made_up_entry, size_of
from compliance.merkle import leaf_hash, range_proof, root_hash, subtree_of
from compliance.note import Checkpoint, Signature, SignedNote, sign, verifier_key
from compliance.sqlite_log import SqliteLog
from compliance.witness import ContradictionError, Witness, WitnessError
from compliance.witness_policy import policy_of
from compliance.witness_store import FileWitnessStore

FEDERATION: Final = "drill"
ORIGIN: Final = f"{FEDERATION}/audit/copy"
LEAST_ENTRIES: Final = 12
KINDS: Final = (*ATTACKS, "fork")


@dataclass
class Trial:
    """What came of one history that was shown to the sites.

    ``evidence``: what they kept, a text each. ``deceived``: sites that signed a history which does not go on
    from what they had signed; too few of them for a quorum show here only.
    """

    kind: str
    what: str
    was_accepted: bool
    evidence: list[str] = field(default_factory=list)
    deceived: int = 0


class Drill:
    """``entries`` are copied into ``folder``, which should be empty, and added to when they are few."""

    def __init__(self, entries: Sequence[bytes], sites: int, folder: Path) -> None:
        self._folder, self._sites, self._panels = folder, sites, 0
        self._stolen = Ed25519PrivateKey.generate()
        self.log_key = verifier_key(ORIGIN, self._stolen)
        log = SqliteLog(folder / "copy.sqlite3", timeout_s=10)
        rows = [*entries, *(made_up_entry() for _ in range(LEAST_ENTRIES - len(entries)))]
        for number, leaf in enumerate(rows):
            log.append(str(number), leaf)
        log.close()
        self._base = sqlite3.connect(folder / "copy.sqlite3", isolation_level=None)

    def close(self) -> None:
        """Give the copy back."""
        self._base.close()

    def append(self) -> Trial:
        """No attack: entries are added. Anything but acceptance is a false alarm."""
        database, panel = self._begun()
        count = grow(database, 1 + secrets.randbelow(6))
        accepted = panel.accepts(database, panel.all)
        database.close()
        return Trial("append", f"{count} entries added", accepted, panel.evidence)

    def rewrite(self, kind: str) -> Trial:
        """One attack of ``KINDS``; whether any quorum signed what it made."""
        if kind == "fork":
            return self._fork()
        database, panel = self._begun()
        before = size_of(database)
        what = ATTACKS[kind](database, before)
        accepted = panel.accepts(database, panel.all)
        grow(database, max(0, before - size_of(database)) + secrets.randbelow(6))  # the log lives on
        accepted |= panel.accepts(database, panel.all)
        database.close()
        return Trial(kind, what, accepted, panel.evidence, len(panel.deceived))

    def _fork(self) -> Trial:
        """Two histories that go on from the signed one; each is shown to some sites, then to the rest."""
        first, panel = self._begun()
        second = copy_of(first)
        for one in (first, second):
            grow(one, 1 + secrets.randbelow(6))
        count = secrets.randbelow(self._sites + 1)
        some, others = panel.all[:count], panel.all[count:]
        accepted = all([panel.accepts(first, some), panel.accepts(second, others)])
        for one, other, told in ((first, second, others), (second, first, some)):  # what gossip brings
            grow(one, max(0, size_of(other) - size_of(one)))
            accepted |= bool(told) and panel.accepts(one, told)
        first.close()
        second.close()
        what = f"{len(some)} sites shown one, {len(others)} the other"
        return Trial("fork", what, accepted, panel.evidence, len(panel.deceived))

    def _begun(self) -> tuple[sqlite3.Connection, "_Panel"]:
        """A copy, and sites that have signed it, half way and whole."""
        self._panels += 1
        panel = _Panel(self._stolen, self._sites, self._folder / f"sites-{self._panels}")
        database = copy_of(self._base)
        for size in (size_of(database) // 2, None):
            if not panel.accepts(database, panel.all, size):
                raise WitnessError("The sites do not sign the copy itself.")
        return database, panel


class _Panel:
    """Sites with a witness each, and what the thief signs for them."""

    def __init__(self, stolen: Ed25519PrivateKey, count: int, folder: Path) -> None:
        self._stolen, self.evidence, self.deceived = stolen, list[str](), set[str]()
        self._signed: dict[str, list[bytes]] = {}
        log = verifier_key(ORIGIN, stolen)
        names = [f"{FEDERATION}/site-{number + 1}/witness" for number in range(count)]
        stores = [FileWitnessStore(folder / f"{number}.json", ORIGIN) for number in range(count)]
        self.all = [
            (Witness(log, name, Ed25519PrivateKey.generate(), store, time.time), store)
            for name, store in zip(names, stores, strict=True)
        ]
        self._policy = policy_of(
            log, {witness.verifier_key.name: witness.verifier_key for witness, _ in self.all}
        )

    def accepts(
        self,
        database: sqlite3.Connection,
        told: Sequence[tuple[Witness, FileWitnessStore]],
        size: int | None = None,
    ) -> bool:
        """Whether the checkpoint of these rows, shown to these sites, comes back with a quorum."""
        leaves = [leaf_hash(leaf) for leaf in leaves_of(database)][:size]
        note = sign(str(Checkpoint(ORIGIN, len(leaves), root_hash(leaves))), ORIGIN, self._stolen)
        lines = [line for one in told if (line := self._asked(one, note, leaves)) is not None]
        return self._policy.is_met_by(set(self._policy.signers(note.with_signatures(lines))))

    def _asked(
        self, one: tuple[Witness, FileWitnessStore], note: SignedNote, leaves: list[bytes]
    ) -> Signature | None:
        witness, store = one
        old = store.read().size
        proof = range_proof(subtree_of(leaves), old, old, len(leaves)) if 0 < old < len(leaves) else []
        try:
            line = witness.sign(str(note), proof)
        except ContradictionError as found:
            self.evidence.append(found.evidence)
        except WitnessError:  # a refusal without proof: a log that became shorter
            pass
        else:
            self._judge(witness.verifier_key.name, leaves)
            return line
        return None

    def _judge(self, name: str, leaves: list[bytes]) -> None:
        """By the entries themselves, not by a proof: what a site signs must go on from what it signed."""
        before = self._signed.setdefault(name, leaves)
        if leaves[: len(before)] != before:
            self.deceived.add(name)
        self._signed[name] = leaves
