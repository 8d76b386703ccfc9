"""Evidence that a log contradicts itself: two checkpoints of its own hand that no one history has.

Whoever holds the log's public key can check it; that is why a witness keeps it and gives it to everybody.
"""

from dataclasses import dataclass

from compliance.bundle import encode_note
from compliance.merkle import HASH_BYTES, ProofError, Subtree, range_proof, root_of_range
from compliance.note import (
    MAX_NOTE_BYTES,
    Checkpoint,
    NoteError,
    SignedNote,
    VerifierKey,
    decode_base64,
    decode_number,
    encode_base64,
    open_checkpoint,
)

HEADER = "consilium-audit-evidence/v1"
MAX_PROOF_HASHES = 106  # 53 on each side of a place in a tree of fewer than 2^53 leaves
MAX_TEXT_BYTES = 128 + MAX_PROOF_HASHES * 45 + 2 * (16 + MAX_NOTE_BYTES * 4 // 3)


class EvidenceError(ValueError):
    """The text is not evidence, or the two checkpoints do not contradict each other."""


@dataclass(frozen=True)
class Evidence:
    """Two signed checkpoints; for a rewrite, the proof that the second tree does not begin with the first.

    ``proof`` is None for a split: equal sizes, different roots.
    """

    first: SignedNote
    second: SignedNote
    proof: tuple[bytes, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> "Evidence":
        """Raises EvidenceError for anything that is not written exactly so; nothing is proven yet."""
        if len(text) > MAX_TEXT_BYTES:
            raise EvidenceError(f"Evidence has at most {MAX_TEXT_BYTES} bytes.")
        lines = text.split("\n")
        if len(lines) < 5 or lines[0] != HEADER or lines[-1]:
            raise EvidenceError(f"Evidence begins with {HEADER} and ends with two checkpoints.")
        try:
            proof = _read_proof(lines[1], lines[2:-3])
            return cls(_read_note(lines[-3]), _read_note(lines[-2]), proof)
        except NoteError as error:
            raise EvidenceError(str(error)) from error

    def is_proven_for(self, key: VerifierKey) -> bool:
        """Whether the log that holds ``key`` signed both, and no one history has them both."""
        try:
            first, _ = open_checkpoint(str(self.first), key)
            second, _ = open_checkpoint(str(self.second), key)
            if self.proof is None:
                return first.size == second.size and first.root != second.root
            return first.size < second.size and _does_not_begin_with(first, second, self.proof)
        except (NoteError, ProofError):
            return False

    def __str__(self) -> str:
        kind = "split" if self.proof is None else f"rewrite {len(self.proof)}"
        lines = [HEADER, kind, *map(encode_base64, self.proof or ())]
        lines += [f"checkpoint {encode_note(note)}" for note in (self.first, self.second)]
        return "\n".join(lines) + "\n"


def evidence_of(first: SignedNote, second: SignedNote, subtree: Subtree | None = None) -> Evidence:
    """What convicts the log that signed both; ``subtree`` is of the larger tree, not needed for equal sizes.

    Raises EvidenceError when they agree, or when ``subtree`` is missing or of another tree than the larger's.
    """
    first, second = sorted((first, second), key=lambda note: Checkpoint.parse(note.text).size)
    old, new = Checkpoint.parse(first.text), Checkpoint.parse(second.text)
    if old.size == new.size:
        if old.root == new.root:
            raise EvidenceError("The two checkpoints have the same size and root.")
        return Evidence(first, second)
    if subtree is None:
        raise EvidenceError("Checkpoints of different sizes need the hashes of the larger tree.")
    proof = tuple(range_proof(subtree, old.size, old.size, new.size))
    if not _does_not_begin_with(old, new, proof):
        raise EvidenceError("The hashes do not show that the larger tree begins otherwise.")
    return Evidence(first, second, proof)


def _does_not_begin_with(first: Checkpoint, second: Checkpoint, proof: tuple[bytes, ...]) -> bool:
    """Raises ProofError for a proof of another number of hashes than the sizes ask for."""
    peaks = proof[: first.size.bit_count()]
    leads = root_of_range(first.size, (), second.size, proof) == second.root
    return leads and root_of_range(first.size, (), first.size, peaks) != first.root


def _read_proof(kind: str, lines: list[str]) -> tuple[bytes, ...] | None:
    word, _, number = kind.partition(" ")
    if kind == "split" and not lines:
        return None
    if word != "rewrite" or decode_number(number) != len(lines) or len(lines) > MAX_PROOF_HASHES:
        raise EvidenceError("Evidence is a split, or a rewrite with as many hashes as it says.")
    hashes = tuple(decode_base64(line) for line in lines)
    if any(len(one) != HASH_BYTES for one in hashes):
        raise EvidenceError(f"A hash has {HASH_BYTES} bytes.")
    return hashes


def _read_note(line: str) -> SignedNote:
    word, _, encoded = line.partition(" ")
    if word != "checkpoint":
        raise EvidenceError("Evidence ends with two checkpoints.")
    try:
        note = SignedNote.parse(decode_base64(encoded).decode())
    except UnicodeDecodeError as error:
        raise EvidenceError("A checkpoint is not UTF-8.") from error
    Checkpoint.parse(note.text)
    return note
