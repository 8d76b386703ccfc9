"""The Merkle tree of RFC 6962 (section 2.1): hashes, heads, inclusion and consistency proofs.

Everything here is pure: hashes in, hashes out. A proof is built from any source of hashes through
``subtree(start, end)``, the head over the leaves start ≤ i < end; lists, tiles and databases give one each.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

Subtree: TypeAlias = Callable[[int, int], bytes]
EMPTY_ROOT = hashlib.sha256(b"").digest()
HASH_BYTES = 32


class ProofError(ValueError):
    """A proof does not have the form that its sizes ask for."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data). The prefix keeps a leaf from ever passing for a node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A growing tree in log₂(size) hashes: its full subtrees, tallest first."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Go on from ``peaks`` of a tree of ``size`` leaves. Raises ProofError unless their number fits."""
        heights = [bit for bit in range(size.bit_length() - 1, -1, -1) if size >> bit & 1]
        self.size = size
        try:
            self._stack = list(zip(heights, peaks, strict=True))
        except ValueError as error:
            raise ProofError(f"A tree of {size} leaves has {len(heights)} full subtrees.") from error

    def append(self, digest: bytes, height: int = 0) -> None:
        """Put a full subtree of 2**height leaves at the right end, where it must fit."""
        if self.size % (1 << height):
            raise ProofError("A subtree does not stand where its height allows.")
        self.size += 1 << height
        while self._stack and self._stack[-1][0] == height:
            digest = node_hash(self._stack.pop()[1], digest)
            height += 1
        self._stack.append((height, digest))

    @property
    def peaks(self) -> list[bytes]:
        """The full subtrees' hashes, tallest first."""
        return [digest for _, digest in self._stack]

    def root(self) -> bytes:
        """The tree head; of no leaf, SHA-256 of nothing."""
        if not self._stack:
            return EMPTY_ROOT
        digest = self._stack[-1][1]
        for _, left in reversed(self._stack[:-1]):
            digest = node_hash(left, digest)
        return digest


def root_hash(leaves: Iterable[bytes]) -> bytes:
    """The head over leaf *hashes*, in order."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def subtree_of(leaves: Sequence[bytes]) -> Subtree:
    """Heads over slices of a list of leaf hashes."""
    return lambda start, end: root_hash(leaves[start:end])


def inclusion_proof(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]), bottom up (RFC 6962, 2.1.1). Raises IndexError when there is no such leaf."""
    if not 0 <= index < size:
        raise IndexError(index)
    proof, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(subtree(middle, end))
            end = middle
        else:
            proof.append(subtree(start, middle))
            start = middle
    return proof[::-1]


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether ``leaf`` is leaf ``index`` of the tree of ``size`` leaves (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, digest = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            digest = node_hash(sibling, digest)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            digest = node_hash(digest, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and digest == root


def consistency_proof(subtree: Subtree, first: int, second: int) -> list[bytes]:
    """PROOF(first, D[second]) (RFC 6962, 2.1.2). Raises IndexError unless 0 < first ≤ second."""
    if not 0 < first <= second:
        raise IndexError(first)
    proof, start, end = [], 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            proof.append(subtree(middle, end))
            end = middle
        else:
            proof.append(subtree(start, middle))
            start = middle
    if start:  # not the whole of the old tree: the verifier does not know this hash
        proof.append(subtree(start, end))
    return proof[::-1]


def is_consistent(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> bool:
    """Whether the tree of ``second`` leaves begins with that of ``first`` (RFC 9162, 2.1.4.2).

    Every tree begins with the empty one, and a tree with itself; both proofs are empty.
    """
    if first == 0 or first == second:
        old, new = (EMPTY_ROOT, second_root) if first == 0 else (second_root, second_root)
        return not proof and 0 <= first <= second and (first_root, second_root) == (old, new)
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    return 0 < first < second and _climb(first, second, path) == (first_root, second_root)


def _climb(first: int, second: int, path: list[bytes]) -> tuple[bytes, bytes] | None:
    """The heads of the old and the new tree that ``path`` leads to; None when its length is wrong."""
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    if not path:
        return None
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return None if last else (old, new)


def range_proof(subtree: Subtree, start: int, end: int, size: int) -> list[bytes]:
    """The full subtrees left of ``start``, then those right of ``end``, each side from left to right.

    With ``start == end`` it commits to the tree of the first ``start`` leaves: their hashes are its peaks.
    Raises IndexError unless 0 ≤ start ≤ end ≤ size.
    """
    if not 0 <= start <= end <= size:
        raise IndexError(start)
    return [subtree(*node) for node in [*cover(0, start, start), *cover(end, size, size)]]


def root_of_range(start: int, leaves: Iterable[bytes], size: int, proof: Sequence[bytes]) -> bytes:
    """The head of a tree of ``size`` leaves that has ``leaves`` (hashes) from ``start`` on.

    Raises ProofError for a proof whose number of hashes is not the one that the sizes ask for.
    """
    left = start.bit_count()
    frontier = Frontier(start, proof[:left])
    for leaf in leaves:
        frontier.append(leaf)
    if frontier.size > size:
        raise ProofError("There are more leaves than the tree has.")
    nodes = cover(frontier.size, size, size)
    if len(nodes) != len(proof) - left:
        raise ProofError("The proof of a range has the wrong number of hashes.")
    for (begin, after), digest in zip(nodes, proof[left:], strict=True):
        frontier.append(digest, (after - begin).bit_length() - 1)
    return frontier.root()


def cover(start: int, end: int, size: int) -> list[tuple[int, int]]:
    """The largest full subtrees that together are start ≤ i < end of a tree of ``size`` leaves."""
    nodes = []
    while start < end:
        height = (start & -start).bit_length() - 1 if start else size.bit_length()
        height = min(height, (end - start).bit_length() - 1)
        nodes.append((start, start + (1 << height)))
        start += 1 << height
    return nodes


def _split(width: int) -> int:
    """The largest power of two smaller than ``width`` (RFC 6962, 2.1)."""
    return 1 << (width - 1).bit_length() - 1
