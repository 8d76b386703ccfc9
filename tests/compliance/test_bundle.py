"""What is asked for and has no bundle, proof or evidence is refused where it is asked for."""

import pytest

from compliance import merkle
from compliance.bundle import BundleError, bundle_lines, encode_note, ranges_of
from compliance.evidence_file import Evidence, EvidenceError, evidence_of
from compliance.merkle import ProofError
from compliance.note import Signature
from compliance.tlog_proof import TlogProof, TlogProofError
from tests.compliance import small_log as log
from tests.compliance.test_merkle import HASHES, ROOTS

# certificate-transparency's merkle tree tests: first size, second size, proof
CONSISTENCY = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


@pytest.mark.parametrize(("first", "second", "proof"), CONSISTENCY)
def test_consistency_proofs_are_those_of_certificate_transparency(first, second, proof):
    hashes = [bytes.fromhex(one) for one in proof]
    roots = [bytes.fromhex(ROOTS[size - 1]) for size in (first, second)]
    assert merkle.consistency_proof(merkle.subtree_of(HASHES), first, second) == hashes
    assert merkle.is_consistent(first, second, hashes, *roots)
    assert not merkle.is_consistent(first, second, [*hashes, bytes(32)], *roots)
    assert not merkle.is_consistent(first, second, hashes, bytes(32), roots[1])
    assert not merkle.is_consistent(first, second, hashes[:-1] or [bytes(32)], *roots)


def test_consistency_has_edges():
    root, tree = merkle.root_hash(HASHES), merkle.subtree_of(HASHES)
    assert merkle.is_consistent(0, 8, [], merkle.EMPTY_ROOT, root)
    assert not merkle.is_consistent(0, 8, [], root, root)
    assert not merkle.is_consistent(8, 7, [], root, root)
    assert not merkle.is_consistent(7, 8, [], bytes(32), root)
    for sizes in ((0, 8), (9, 8)):
        with pytest.raises(IndexError):
            merkle.consistency_proof(tree, *sizes)
    with pytest.raises(IndexError):
        merkle.range_proof(tree, 3, 2, 8)
    with pytest.raises(ProofError, match="full subtrees"):
        merkle.Frontier(3, [root])
    with pytest.raises(ProofError, match="height"):
        merkle.Frontier(1, [root]).append(root, 1)
    with pytest.raises(ProofError, match="more leaves"):
        merkle.root_of_range(0, HASHES, 7, [])
    assert len(merkle.Frontier(8, [root]).peaks) == 1


def test_every_size_begins_every_larger_one():
    tree = merkle.subtree_of(log.HASHES)
    roots = [merkle.root_hash(log.HASHES[:size]) for size in range(21)]
    for first in range(1, 21):
        for second in range(first, 21):
            proof = merkle.consistency_proof(tree, first, second)
            assert merkle.is_consistent(first, second, proof, roots[first], roots[second])


def test_scattered_leaves_become_the_fewest_ranges():
    assert ranges_of([7, 3, 4, 4, 19]) == [(3, 5), (7, 8), (19, 20)]
    assert ranges_of([]) == []


@pytest.mark.parametrize(
    ("ranges", "sizes", "sentence"),
    [
        ([], [20], "at least one range"),
        ([(3, 3)], [20], "no range is empty"),
        ([(-1, 3)], [20], "no range is empty"),
        ([(3, 5), (5, 6)], [20], "do not touch"),
        ([(3, 5), (1, 2)], [20], "do not touch"),
        ([(3, 21)], [20], "covers 20"),
        ([(3, 5)], [9, 5, 20], "ascend in size"),
        ([(3, 5)], [20, 20], "ascend in size"),
    ],
)
def test_a_bundle_is_refused_before_its_first_line(ranges, sizes, sentence):
    *heads, last = [log.checkpoint(size) for size in sizes]
    with pytest.raises(BundleError, match=sentence):
        bundle_lines(log.SUBTREE, lambda a, b: log.ENTRIES[a:b], ranges, last, heads)


@pytest.mark.parametrize(("entries", "sentence"), [([], "0 entries"), ([b"x" * 8193] * 2, "more than 8192")])
def test_a_bundle_ends_at_an_entry_that_is_not_there_or_too_long(entries, sentence):
    with pytest.raises(BundleError, match=sentence):
        list(bundle_lines(log.SUBTREE, lambda a, b: entries, [(3, 5)], log.checkpoint(20)))


def test_a_note_that_readers_refuse_is_not_written():
    long = log.checkpoint(5).with_signatures([Signature("a", b"abcd", bytes(16_000))])
    with pytest.raises(BundleError, match="16384"):
        encode_note(long)


def test_checkpoints_that_agree_are_no_evidence():
    old, new = log.checkpoint(9), log.checkpoint(20)
    other = log.checkpoint(20, hashes=log.HASHES[::-1])
    with pytest.raises(EvidenceError, match="same size and root"):
        evidence_of(new, log.cosigned(new))
    with pytest.raises(EvidenceError, match="need the hashes"):
        evidence_of(old, other)
    for pair in ((old, new), (old, other)):
        with pytest.raises(EvidenceError, match="do not show"):
            evidence_of(*pair, log.SUBTREE)
    assert Evidence.parse(str(evidence_of(other, new))).is_proven_for(log.LOG)


@pytest.mark.parametrize("reader", [Evidence, TlogProof])
def test_long_texts_are_refused_unread(reader):
    with pytest.raises((EvidenceError, TlogProofError), match="at most"):
        reader.parse("x" * 100_000)


def test_a_checkpoint_in_evidence_is_utf8():
    lines = str(evidence_of(log.checkpoint(20), log.checkpoint(20, hashes=log.HASHES[::-1]))).split("\n")
    with pytest.raises(EvidenceError, match="UTF-8"):
        Evidence.parse("\n".join([*lines[:2], "checkpoint /w==", *lines[3:]]))
    with pytest.raises(EvidenceError, match="two checkpoints"):
        Evidence.parse("\n".join([*lines[:2], "checkpoints", *lines[3:]]))
