"""The proof of one entry: C2SP tlog-proof, a text that stands beside the entry's bytes."""

from dataclasses import dataclass

from compliance.merkle import HASH_BYTES, Subtree, inclusion_proof, is_included, leaf_hash
from compliance.note import (
    MAX_NOTE_BYTES,
    Checkpoint,
    NoteError,
    SignedNote,
    decode_base64,
    decode_number,
    encode_base64,
)

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_HASHES = 53  # a tree has fewer than 2^53 leaves
MAX_TEXT_BYTES = len(HEADER) + 64 + MAX_PROOF_HASHES * 45 + MAX_NOTE_BYTES


class TlogProofError(ValueError):
    """The text is not a proof of one entry."""


@dataclass(frozen=True)
class TlogProof:
    """Which leaf, its siblings bottom up, and the signed checkpoint; nothing is proven yet."""

    index: int
    hashes: tuple[bytes, ...]
    note: SignedNote

    @classmethod
    def parse(cls, text: str) -> "TlogProof":
        """Raises TlogProofError."""
        if len(text) > MAX_TEXT_BYTES:
            raise TlogProofError(f"A proof has at most {MAX_TEXT_BYTES} bytes.")
        head, _, note = text.partition("\n\n")
        lines = head.split("\n")
        if lines[0] != HEADER or len(lines) < 2 or not lines[1].startswith("index "):
            raise TlogProofError(f"A proof begins with the lines {HEADER} and index INDEX.")
        try:
            hashes = tuple(decode_base64(line) for line in lines[2:])
            proof = cls(decode_number(lines[1][len("index ") :]), hashes, SignedNote.parse(note))
            Checkpoint.parse(proof.note.text)
        except NoteError as error:
            raise TlogProofError(str(error)) from error
        if len(hashes) > MAX_PROOF_HASHES or any(len(one) != HASH_BYTES for one in hashes):
            raise TlogProofError(f"A proof has at most {MAX_PROOF_HASHES} hashes of {HASH_BYTES} bytes.")
        return proof

    def leads_to_its_checkpoint(self, entry: bytes) -> bool:
        """Whether ``entry`` is the leaf; who signed the checkpoint is another question."""
        checkpoint = Checkpoint.parse(self.note.text)
        return is_included(leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root)

    def __str__(self) -> str:
        lines = [HEADER, f"index {self.index}", *map(encode_base64, self.hashes)]
        return "\n".join(lines) + f"\n\n{self.note}"


def proof_of_entry(subtree: Subtree, index: int, note: SignedNote) -> TlogProof:
    """The proof of leaf ``index`` in the tree of the checkpoint ``note``. Raises IndexError."""
    size = Checkpoint.parse(note.text).size
    return TlogProof(index, tuple(inclusion_proof(subtree, index, size)), note)
