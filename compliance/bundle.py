"""Bundles: entries of one log with what proves them, in one text, written line by line.

The format is that of ``docs/audit-log.md``; ``compliance.verify`` reads it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from compliance.canonical import MAX_BYTES
from compliance.merkle import Subtree, range_proof
from compliance.note import MAX_NOTE_BYTES, Checkpoint, SignedNote, encode_base64

HEADER = "consilium-audit-bundle/v1"
Range: TypeAlias = tuple[int, int]
Entries: TypeAlias = Callable[[int, int], Iterable[bytes]]


class BundleError(ValueError):
    """What is asked for has no bundle: the ranges, heads or entries do not fit each other."""


def ranges_of(indexes: Iterable[int]) -> list[Range]:
    """Scattered leaves as the fewest ranges start ≤ i < end."""
    ranges: list[Range] = []
    for index in sorted(set(indexes)):
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges


def bundle_lines(
    subtree: Subtree,
    entries: Entries,
    ranges: Sequence[Range],
    checkpoint: SignedNote,
    heads: Sequence[SignedNote] = (),
) -> Iterator[str]:
    """The bundle, a line with its line feed at a time; memory does not grow with its entries.

    ``entries(start, end)`` gives the stored bytes of these leaves; ``heads`` are older checkpoints of the
    log, smallest first. Raises BundleError at the call for ranges and heads, at its line for an entry.
    """
    sizes = [Checkpoint.parse(note.text).size for note in (*heads, checkpoint)]
    _check(ranges, sizes)
    return itertools.chain(
        [f"{HEADER}\nranges {len(ranges)}\n"],
        _range_lines(subtree, entries, ranges, sizes[-1]),
        [f"heads {len(heads)}\n"],
        _head_lines(subtree, heads, sizes),
        [f"checkpoint {encode_note(checkpoint)}\n"],
    )


def encode_note(note: SignedNote) -> str:
    """A signed note within one line. Raises BundleError when a reader would refuse its length."""
    data = str(note).encode()
    if len(data) > MAX_NOTE_BYTES:
        raise BundleError(f"A signed checkpoint has at most {MAX_NOTE_BYTES} bytes.")
    return encode_base64(data)


def _check(ranges: Sequence[Range], sizes: Sequence[int]) -> None:
    if not ranges or any(start < 0 or start >= end for start, end in ranges):
        raise BundleError("A bundle has at least one range, and no range is empty.")
    if any(first[1] >= second[0] for first, second in itertools.pairwise(ranges)):
        raise BundleError("The ranges of a bundle ascend and do not touch.")
    if ranges[-1][1] > sizes[-1]:
        raise BundleError(f"The checkpoint covers {sizes[-1]} entries, fewer than are asked for.")
    if any(first >= second for first, second in itertools.pairwise(sizes)):
        raise BundleError("Older checkpoints ascend in size and are smaller than the last one.")


def _range_lines(subtree: Subtree, entries: Entries, ranges: Iterable[Range], size: int) -> Iterator[str]:
    for start, end in ranges:
        proof = range_proof(subtree, start, end, size)
        yield f"range {start} {end} {len(proof)}\n"
        yield from _hash_lines(proof)
        yield from _entry_lines(entries, start, end)


def _head_lines(subtree: Subtree, heads: Iterable[SignedNote], sizes: Sequence[int]) -> Iterator[str]:
    for head, size in zip(heads, sizes, strict=False):
        proof = range_proof(subtree, size, size, sizes[-1])
        yield f"head {len(proof)} {encode_note(head)}\n"
        yield from _hash_lines(proof)


def _hash_lines(proof: Iterable[bytes]) -> Iterator[str]:
    return (f"{encode_base64(digest)}\n" for digest in proof)


def _entry_lines(entries: Entries, start: int, end: int) -> Iterator[str]:
    count = 0
    for data in entries(start, end):
        if len(data) > MAX_BYTES:
            raise BundleError(f"Entry {start + count} has more than {MAX_BYTES} bytes.")
        count += 1
        yield f"{encode_base64(data)}\n"
    if count != end - start:
        raise BundleError(f"{count} entries were found from {start} to {end}.")
