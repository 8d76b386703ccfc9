import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import merkle
from compliance.tiles import WIDTH, Edge, TiledTree, TilesInMemory, split_hashes

LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(70_000)]
SIZES = [0, 1, 2, 255, 256, 257, 511, 512, 1000, 4096, 65_535, 65_536, 65_537, 70_000]


@pytest.fixture(scope="module")
def log():
    kept = TilesInMemory()
    for leaf in LEAVES:
        kept.append(leaf)
    return kept


@pytest.mark.parametrize("size", SIZES)
def test_the_root_over_tiles_is_that_of_the_leaves(log, size):
    tree = TiledTree(size, log.row)
    assert tree(0, size) == merkle.root_hash(LEAVES[:size])
    assert Edge(size, log.row).root() == tree(0, size)


@given(st.data())
def test_proofs_over_tiles_lead_to_the_root(log, data):
    size = data.draw(st.integers(1, len(LEAVES)))
    tree = TiledTree(size, log.row)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(tree, index, size)
    assert merkle.is_included(LEAVES[index], index, size, proof, tree(0, size))
    old = data.draw(st.integers(1, size))
    consistency = merkle.consistency_proof(tree, old, size)
    assert merkle.is_consistent(old, size, consistency, TiledTree(old, log.row)(0, old), tree(0, size))
    end = data.draw(st.integers(index, min(size, index + 40)))
    span = merkle.range_proof(tree, index, end, size)
    assert merkle.root_of_range(index, LEAVES[index:end], size, span) == tree(0, size)


@given(st.integers(0, 66_000), st.integers(0, 1200))
def test_an_edge_goes_on_where_the_log_ends(log, size, more):
    edge = Edge(size, log.row)
    tiles = edge.extend(LEAVES[size : size + more])
    assert edge.root() == TiledTree(size + more, log.row)(0, size + more)
    assert all(log.tiles[tile.level, tile.n] == tile for tile in tiles)
    assert len([tile for tile in tiles if tile.level == 0]) == (size + more) // WIDTH - size // WIDTH


def test_a_tree_of_millions_asks_for_few_hashes():
    asked = []

    def row(level, start, end):
        asked.append(end - start)
        return [hashlib.sha256(b"%d %d" % (level, index)).digest() for index in range(start, end)]

    size = 10_000_000
    merkle.inclusion_proof(TiledTree(size, row), 1_234_567, size)
    assert len(asked) <= 6
    assert sum(asked) <= 6 * WIDTH


def test_missing_hashes_are_never_taken_for_a_shorter_tree(log):
    def row(level, start, end):
        return log.row(level, start, end)[:-1]

    with pytest.raises(merkle.ProofError, match="lacks hashes"):
        TiledTree(1000, row)(0, 1000)
    with pytest.raises(merkle.ProofError, match="lacks hashes"):
        Edge(1000, row)
    with pytest.raises(IndexError):
        TiledTree(10, log.row)(0, 11)


def test_tiles_are_whole_hashes(log):
    tile = log.tiles[0, 3]
    assert split_hashes(tile.data) == LEAVES[3 * WIDTH : 4 * WIDTH]
    assert log.tree().size == len(LEAVES)
    with pytest.raises(merkle.ProofError):
        split_hashes(tile.data[:-1])
