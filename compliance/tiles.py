"""The tree of a log in tiles (C2SP tlog-tiles, height 8): 256 hashes that stand side by side, kept once full.

Level L holds the nodes of height 8 · L; tile n of it the nodes 256 · n ≤ i < 256 · (n + 1). Whoever keeps a
log gives a ``Row``, ``row(level, start, end)``: these nodes' hashes, never from more than one tile. Heads and
proofs then cost O(log size) rows, whatever keeps them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from compliance.merkle import HASH_BYTES, Frontier, ProofError, cover, node_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
KEPT = 64  # tiles, half a megabyte: the proofs of a long bundle share the upper ones
Row: TypeAlias = Callable[[int, int, int], Sequence[bytes]]


@dataclass(frozen=True)
class Tile:
    """A full tile. ``root``: the node of the next level that it makes."""

    level: int
    n: int
    hashes: tuple[bytes, ...]
    root: bytes

    @property
    def data(self) -> bytes:
        """The 8192 bytes that are kept."""
        return b"".join(self.hashes)


def full_root(hashes: Sequence[bytes]) -> bytes:
    """The head over a full subtree's hashes, a power of two of them: a quarter faster than ``root_hash``."""
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def split_hashes(data: bytes) -> list[bytes]:
    """The hashes of a tile's bytes. Raises ProofError for bytes that are no whole number of hashes."""
    if len(data) % HASH_BYTES:
        raise ProofError("A tile is a whole number of hashes.")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


class TiledTree:
    """The tree of the first ``size`` leaves: called with a start and an end it gives that subtree's head.

    Rows are kept while they are few, so that the proofs of one tree share them.
    """

    def __init__(self, size: int, row: Row) -> None:
        self.size = size
        self._row = row
        self._tiles: dict[tuple[int, int], Sequence[bytes]] = {}

    def __call__(self, start: int, end: int) -> bytes:
        """The head over start ≤ i < end: of a whole tree, or of a subtree that RFC 6962 splits off.

        Raises IndexError outside of the tree, and ProofError for hashes that are missing or a range that
        is no subtree.
        """
        if not 0 <= start <= end <= self.size:
            raise IndexError(start)
        frontier = Frontier()
        for begin, after in cover(start, end, end):
            frontier.append(self._node(begin, after), (after - begin).bit_length() - 1)
        return frontier.root()

    def _node(self, start: int, end: int) -> bytes:
        """A full subtree. It lies in one tile, since it is aligned and at most half of one."""
        level = ((end - start).bit_length() - 1) // HEIGHT
        first, last = start >> HEIGHT * level, end >> HEIGHT * level
        n = first // WIDTH
        tile, at = self._tile(level, n), first - n * WIDTH
        return full_root(tile[at : at + last - first])

    def _tile(self, level: int, n: int) -> Sequence[bytes]:
        if (level, n) not in self._tiles:
            start, end = n * WIDTH, min((n + 1) * WIDTH, self.size >> HEIGHT * level)
            hashes = self._row(level, start, end)
            if len(hashes) != end - start:
                raise ProofError(f"The log lacks hashes of level {level} between {start} and {end}.")
            if len(self._tiles) == KEPT:
                self._tiles.clear()
            self._tiles[level, n] = hashes
        return self._tiles[level, n]


class Edge:
    """The right edge of a growing tree: of every level, the hashes that do not fill a tile yet."""

    def __init__(self, size: int, row: Row) -> None:
        """Go on from a log of ``size`` leaves. Raises ProofError when hashes are missing."""
        self.size = size
        self._levels: list[list[bytes]] = []
        while size >> HEIGHT * len(self._levels):
            level = len(self._levels)
            end = size >> HEIGHT * level
            start = end - end % WIDTH
            hashes = list(row(level, start, end)) if end > start else []
            if len(hashes) != end - start:
                raise ProofError(f"The log lacks hashes of level {level} between {start} and {end}.")
            self._levels.append(hashes)

    def append(self, leaf: bytes) -> list[Tile]:
        """Put a leaf hash at the end. Returns the tiles that it fills, lowest first; they must be kept."""
        return self.extend([leaf])

    def extend(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Put leaf hashes at the end, in order. Returns the tiles that they fill, as ``append`` does."""
        tiles: list[Tile] = []
        done = 0
        while done < len(leaves):
            some = leaves[done : done + WIDTH - self.size % WIDTH]
            done += len(some)
            self.size += len(some)
            tiles += self._put(0, some)
        return tiles

    def _put(self, level: int, digests: Sequence[bytes]) -> Iterator[Tile]:
        """``digests``: no more than fit into the tile that this level has open."""
        if level == len(self._levels):
            self._levels.append([])
        hashes = self._levels[level]
        hashes += digests
        if len(hashes) == WIDTH:
            n = (self.size >> HEIGHT * (level + 1)) - 1
            tile = Tile(level, n, tuple(hashes), full_root(hashes))
            hashes.clear()
            yield tile
            yield from self._put(level + 1, [tile.root])

    def root(self) -> bytes:
        """The tree head."""
        frontier = Frontier()
        for level in range(len(self._levels) - 1, -1, -1):
            for digest in self._levels[level]:
                frontier.append(digest, HEIGHT * level)
        return frontier.root()


class TilesInMemory:
    """Full tiles and the leaves behind them, in lists: for tests and for what is built once."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.tiles: dict[tuple[int, int], Tile] = {}
        self._edge = Edge(0, self.row)

    def append(self, leaf: bytes) -> None:
        """Put a leaf hash at the end."""
        self.leaves.append(leaf)
        for tile in self._edge.append(leaf):
            self.tiles[tile.level, tile.n] = tile

    def row(self, level: int, start: int, end: int) -> Sequence[bytes]:
        """A ``Row`` of this log."""
        if level == 0:
            return self.leaves[start:end]
        return [self.tiles[level - 1, index].root for index in range(start, end)]

    def tree(self) -> TiledTree:
        """The tree as it is now."""
        return TiledTree(len(self.leaves), self.row)
