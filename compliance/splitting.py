"""Whether two signed checkpoints of one log are of one history, and evidence when they are not.

Of one size the roots decide. Of different sizes somebody has to bring hashes of the larger tree: the log's
own growth proof, or all its entries. Without either nothing can be said, and a log that will not give them is
not proven guilty by that: it is asked again, by the sites, whose witnesses sign nothing until it answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from compliance.evidence_file import Evidence
from compliance.merkle import ProofError, leaf_hash, range_proof, root_hash, root_of_range, subtree_of
from compliance.note import Checkpoint, NoteError, SignedNote, VerifierKey, decode_base64, open_checkpoint
from compliance.reconcile import entries_of_bundle


class SplitError(ValueError):
    """What was brought to judge the checkpoints with does not fit them."""


@dataclass(frozen=True)
class Judged:
    """``is_one_history`` with no evidence: proven to agree; neither: nothing can be said."""

    sentence: str
    evidence: Evidence | None = None
    is_one_history: bool = False


def judge(notes: Sequence[SignedNote], *, growth: str, bundle: str, key: VerifierKey) -> Judged:
    """Two checkpoints that ``key`` signed; ``growth`` and ``bundle`` may be empty. Raises SplitError."""
    first, second = sorted(notes, key=lambda note: _head(note).size)
    old, new = _head(first), _head(second)
    if old.size == new.size:
        if old.root == new.root:
            return Judged("No contradiction: the two have the same size and root.", is_one_history=True)
        sentence = f"CONTRADICTION: the log signed two trees of {old.size} entries."
        return Judged(sentence, Evidence(first, second))
    if growth:
        return _by_growth(first, second, growth)
    if bundle:
        return _by_entries((first, second), bundle, key)
    return Judged(
        f"The sizes differ ({old.size} and {new.size}), and two checkpoints alone say nothing then. Bring "
        "all entries (--bundle), or the hashes that the log's door gives a site as “growth” from one to "
        "the other (--growth). If the log will not give them, ask a site: its witness signs nothing then."
    )


def _by_growth(first: SignedNote, second: SignedNote, growth: str) -> Judged:
    """Raises SplitError for hashes that do not lead to the larger tree: they say nothing about the log."""
    old, new = _head(first), _head(second)
    try:
        proof = tuple(decode_base64(line) for line in growth.split("\n") if line)
        leads = root_of_range(old.size, (), new.size, proof) == new.root
        begins = root_of_range(old.size, (), old.size, proof[: old.size.bit_count()])
    except (NoteError, ProofError) as error:
        raise SplitError(f"These are not the hashes from {old.size} to {new.size}: {error}") from error
    if not leads:
        raise SplitError("The hashes do not lead to the root of the larger checkpoint.")
    if begins == old.root:
        return Judged(f"No contradiction: {new.size} begins with {old.size}.", is_one_history=True)
    return Judged(_rewritten(old, new), Evidence(first, second, proof))


def _by_entries(notes: Sequence[SignedNote], bundle: str, key: VerifierKey) -> Judged:
    """Against the bundle's own last checkpoint, which the log signed too. Raises SplitError."""
    try:
        leaves = [leaf_hash(entry) for entry in entries_of_bundle(bundle)]
        line = bundle.rstrip("\n").rpartition("\n")[2]
        last = open_checkpoint(decode_base64(line.removeprefix("checkpoint ")).decode(), key)[1]
    except (ValueError, StopIteration) as error:
        raise SplitError("The bundle cannot be read. Verify it first.") from error
    whole = _head(last)
    if (len(leaves), root_hash(leaves)) != (whole.size, whole.root):
        raise SplitError("The bundle has not all entries. Export one without a selection.")
    for note in notes:
        one = _head(note)
        if one.size > whole.size:
            return Judged(f"The bundle ends at {whole.size}, before {one.size}: bring a newer one.")
        if root_hash(leaves[: one.size]) != one.root:
            proof = tuple(range_proof(subtree_of(leaves), one.size, one.size, whole.size))
            is_split = one.size == whole.size
            return Judged(_rewritten(one, whole), Evidence(note, last, None if is_split else proof))
    return Judged("No contradiction: both are beginnings of the bundle's log.", is_one_history=True)


def _rewritten(old: Checkpoint, new: Checkpoint) -> str:
    return f"CONTRADICTION: the log signed {old.size} entries, and {new.size} that do not begin with them."


def _head(note: SignedNote) -> Checkpoint:
    return Checkpoint.parse(note.text)
