"""What a witness signs: checkpoints of one log that only grew since the last one it signed.

A state machine without input or output but for the store that it is given, so that one set of tests covers
what every site does. A signature is made only after the store has made what it says durable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.evidence_file import Evidence
from compliance.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, ProofError, root_of_range
from compliance.note import (
    COSIGNATURE_V1,
    Checkpoint,
    NoteError,
    Signature,
    SignedNote,
    VerifierKey,
    cosign,
    open_checkpoint,
    verifier_key,
    verify,
)


class WitnessError(ValueError):
    """A checkpoint was not signed; the class says why. Nothing was changed but where it says so."""


class ForeignError(WitnessError):
    """It is no checkpoint, or the log did not sign it."""


class OlderError(WitnessError):
    """It is smaller than what this witness signed; an old copy, or a log that was put back."""


class UnprovenError(WitnessError):
    """The proof does not lead from what this witness signed to what it is shown."""


class ForgottenError(WitnessError):
    """The checkpoint carries this witness's own signature, but the witness does not remember so much.

    Its state was put back or lost. The key must sign nothing more.
    """


class MovedError(WitnessError):
    """Another process has moved the state meanwhile; ask again."""


class ContradictionError(WitnessError):
    """The log signed two histories. ``evidence`` proves it to anybody; it is kept and blocks the witness."""

    def __init__(self, sentence: str, evidence: str) -> None:
        super().__init__(sentence)
        self.evidence = evidence


class BlockedError(WitnessError):
    """A contradiction was found before; with this key nothing of this log is signed again."""


@dataclass(frozen=True)
class WitnessState:
    """What a witness remembers of one log: ``note`` is the log's signed checkpoint without cosignatures."""

    origin: str
    size: int = 0
    root: bytes = EMPTY_ROOT
    note: str = ""
    evidence: str = ""


class WitnessStore(Protocol):
    """Where the state outlives a power cut."""

    def read(self) -> WitnessState:
        """As last replaced; the empty tree at first."""

    def replace(self, old: WitnessState, new: WitnessState) -> bool:
        """Put ``new`` durably in the place of ``old``; False, and nothing changed, when it is not ``old``."""


class Witness:
    """One witness of the log that holds ``log``; ``key`` must never have signed with another store."""

    def __init__(
        self,
        log: VerifierKey,
        name: str,
        key: Ed25519PrivateKey,
        store: WitnessStore,
        clock: Callable[[], float],
    ) -> None:
        self._log, self._name, self._key = log, name, key
        self._store, self._clock = store, clock
        self.verifier_key = verifier_key(name, key, COSIGNATURE_V1)

    def sign(self, data: str, proof: Sequence[bytes]) -> Signature:
        """The cosignature of a signed checkpoint.

        ``proof`` is the range proof of the empty range at the size this witness remembers (its peaks come
        first), or empty from size 0 and for the same size. Raises WitnessError.
        """
        seen = self._store.read()
        shown, note = self._opened(data)
        if seen.evidence:
            raise BlockedError("This log contradicted itself before; nothing of it is signed.")
        self._judge(seen, shown, note, proof)
        own = str(self._of_the_log(note))
        self._replace(seen, replace(seen, size=shown.size, root=shown.root, note=own))
        return cosign(note.text, self._name, self._key, int(self._clock()))

    def _opened(self, data: str) -> tuple[Checkpoint, SignedNote]:
        """The checkpoint, and its note; a line under this witness's own name must fit."""
        try:
            shown, note = open_checkpoint(data, self._log)
            for line in note.by(self.verifier_key):
                verify(note.text, line, self.verifier_key)
        except NoteError as error:
            raise ForeignError(f"This is no checkpoint of {self._log.name}: {error}") from error
        if not shown.size and shown.root != EMPTY_ROOT:
            raise ForeignError(f"{self._log.name} signed a root of no entries that is none.")
        return shown, note

    def _of_the_log(self, note: SignedNote) -> SignedNote:
        return SignedNote(note.text, tuple(note.by(self._log)))

    def _judge(self, seen: WitnessState, shown: Checkpoint, note: SignedNote, proof: Sequence[bytes]) -> None:
        """The rules in their order. Raises WitnessError; a contradiction is made durable before."""
        if shown.size < seen.size:
            raise OlderError(f"A checkpoint of size {shown.size} was shown, after one of {seen.size}.")
        if shown.size == seen.size:
            if shown.root != seen.root:
                raise self._contradiction(seen, note, None)
            return
        if note.by(self.verifier_key):
            raise ForgottenError(f"This witness signed size {shown.size} and remembers {seen.size}.")
        if seen.size and not _grew(seen, shown, proof):
            raise self._contradiction(seen, note, tuple(proof))

    def _contradiction(
        self, seen: WitnessState, note: SignedNote, proof: tuple[bytes, ...] | None
    ) -> ContradictionError:
        evidence = str(Evidence(SignedNote.parse(seen.note), self._of_the_log(note), proof))
        self._replace(seen, replace(seen, evidence=evidence))
        return ContradictionError(f"{seen.origin} signed two histories.", evidence)

    def _replace(self, seen: WitnessState, fresh: WitnessState) -> None:
        if not self._store.replace(seen, fresh):
            raise MovedError("The state of this witness was moved by another process.")


def _grew(seen: WitnessState, shown: Checkpoint, proof: Sequence[bytes]) -> bool:
    """Whether the shown tree begins with the seen one. Raises UnprovenError when it is left open."""
    if any(len(one) != HASH_BYTES for one in proof):  # 31 and 33 bytes hash like 32 and 32
        raise UnprovenError("The proof of growth holds what is no hash.")
    try:
        leads = root_of_range(seen.size, (), shown.size, proof) == shown.root
    except ProofError as error:
        raise UnprovenError(f"The proof of growth is malformed: {error}") from error
    if not leads:
        raise UnprovenError("The proof of growth does not lead to the root that was shown.")
    return Frontier(seen.size, proof[: seen.size.bit_count()]).root() == seen.root
