"""A piece of a tree as hashes: what a site has recounted, compared at both ends with a signed root."""

from collections.abc import Sequence
from typing import Final

from compliance.merkle import Frontier, ProofError, cover

PIECE: Final = 1 << 13  # leaves at most: some 50 ms for each visit of each site


def root_of_piece(start: int, end: int, size: int, nodes: Sequence[bytes], proof: Sequence[bytes]) -> bytes:
    """The root of the tree of ``size`` that ``nodes`` over leaves ``start`` to ``end`` lead to.

    ``nodes``: the piece's largest full subtrees; ``proof``: ``merkle.range_proof`` of it. Raises ProofError
    when the numbers of hashes are not those of the piece.
    """
    left = start.bit_count()
    frontier = Frontier(start, proof[:left])
    places, hashes = [*cover(start, end, size), *cover(end, size, size)], [*nodes, *proof[left:]]
    if len(places) != len(hashes):
        raise ProofError("The proof of a piece has the wrong number of hashes.")
    for (begin, after), digest in zip(places, hashes, strict=True):
        frontier.append(digest, (after - begin).bit_length() - 1)
    return frontier.root()
