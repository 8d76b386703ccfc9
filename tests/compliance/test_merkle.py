"""Vectors of RFC 6962 as published by the certificate-transparency project."""

import pytest

from compliance import merkle

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
HASHES = [merkle.leaf_hash(leaf) for leaf in LEAVES]


@pytest.mark.parametrize("size", range(1, 9))
def test_heads_are_those_of_the_published_vectors(size):
    assert merkle.root_hash(HASHES[:size]).hex() == ROOTS[size - 1]


def test_the_head_of_nothing_is_the_hash_of_nothing():
    assert merkle.root_hash([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8])
def test_every_leaf_is_proven_and_no_other(size):
    root = merkle.root_hash(HASHES[:size])
    for index in range(size):
        proof = merkle.inclusion_proof(merkle.subtree_of(HASHES), index, size)
        assert merkle.is_included(HASHES[index], index, size, proof, root)
        assert not merkle.is_included(b"\0" * 32, index, size, proof, root)
        assert not merkle.is_included(HASHES[index], index, size, [*proof, b"\0" * 32], root)
        assert not merkle.is_included(HASHES[index], size, size, proof, root)


def test_there_is_no_proof_for_a_leaf_that_is_not_there():
    with pytest.raises(IndexError):
        merkle.inclusion_proof(merkle.subtree_of(HASHES), 3, 3)
