"""Two checkpoints of different size: evidence that verify.py accepts, or plainly "nothing can be said"."""

from pathlib import Path

import pytest

from compliance import cli
from compliance.bundle import bundle_lines
from compliance.canonical import canonical_bytes
from compliance.merkle import leaf_hash, range_proof, root_hash, subtree_of
from compliance.note import Checkpoint, SignedNote, encode_base64, sign, verifier_key
from platform_web.audit.cli import main
from tests.compliance.logs import ORIGIN, Log

ENTRIES = [canonical_bytes({"id": f"e{number}", "act": "x"}) for number in range(20)]
REWRITTEN = [*ENTRIES[:3], canonical_bytes({"id": "other", "act": "x"}), *ENTRIES[4:]]
KEY = Log().key


def note(entries, size, key=KEY):
    leaves = [leaf_hash(entry) for entry in entries[:size]]
    return str(sign(str(Checkpoint(ORIGIN, size, root_hash(leaves))), ORIGIN, key))


def bundle(entries, size, ranges=None):
    leaves = [leaf_hash(entry) for entry in entries[:size]]
    checkpoint = SignedNote.parse(note(entries, size))
    ranges = ranges or [(0, size)]
    return "".join(bundle_lines(subtree_of(leaves), lambda a, b: entries[a:b], ranges, checkpoint))


def growth(entries, old, new):
    leaves = [leaf_hash(entry) for entry in entries[:new]]
    return "\n".join(map(encode_base64, range_proof(subtree_of(leaves), old, old, new))) + "\n"


@pytest.fixture
def split(tmp_path: Path):
    (tmp_path / "policy").write_text(f"log {verifier_key(ORIGIN, KEY)}\nquorum none\n")

    def run(first, second, **brought):
        for name, text in {"a": first, "b": second, **brought}.items():
            (tmp_path / name).write_text(text)
        more = [word for name in brought for word in (f"--{name}", str(tmp_path / name))]
        files = [str(tmp_path / "a"), str(tmp_path / "b"), "--policy", str(tmp_path / "policy")]
        return main(["split", *files, *more, "--out", str(tmp_path / "evidence")])

    run.convicts = lambda: (
        main(["verify", "--evidence", str(tmp_path / "evidence"), "--policy", str(tmp_path / "policy")]) == 0
    )
    return run


@pytest.mark.parametrize("old", [4, 8, 9, 15, 16, 19])
@pytest.mark.parametrize("is_turned", [False, True])
def test_a_larger_tree_that_does_not_begin_with_the_smaller_is_evidence(split, old, is_turned):
    pair = (note(ENTRIES, old), note(REWRITTEN, 20))
    pair = pair[::-1] if is_turned else pair
    for brought in ({"growth": growth(REWRITTEN, old, 20)}, {"bundle": bundle(REWRITTEN, 20)}):
        assert split(*pair, **brought) == cli.BAD
        assert split.convicts()


@pytest.mark.parametrize("old", [1, 3, 8, 9, 16, 19])
def test_one_history_is_no_contradiction(split, old):
    for brought in ({"growth": growth(ENTRIES, old, 20)}, {"bundle": bundle(ENTRIES, 20)}):
        assert split(note(ENTRIES, old), note(ENTRIES, 20), **brought) == 0
    assert split(note(ENTRIES, 3), note(REWRITTEN, 20), bundle=bundle(REWRITTEN, 20)) == 0


def test_a_third_checkpoint_convicts_as_well(split):
    """The bundle is of a later head; the smaller or the larger of the two does not fit it."""
    assert split(note(ENTRIES, 9), note(REWRITTEN, 15), bundle=bundle(ENTRIES, 20)) == cli.BAD
    assert split.convicts()
    assert split(note(ENTRIES, 9), note(REWRITTEN, 20), bundle=bundle(ENTRIES, 20)) == cli.BAD
    assert split.convicts(), "of one size with the bundle: a split"


def test_without_hashes_nothing_can_be_said(split, capsys):
    assert split(note(ENTRIES, 9), note(REWRITTEN, 20)) == cli.INCOMPLETE
    assert "alone say nothing" in capsys.readouterr().out
    assert split(note(ENTRIES, 9), note(REWRITTEN, 20), bundle=bundle(ENTRIES, 12)) == cli.INCOMPLETE
    assert "bring a newer one" in capsys.readouterr().out


@pytest.mark.parametrize(
    "brought",
    [
        {"growth": growth(ENTRIES, 9, 20)},  # leads to another tree: says nothing about the log
        {"growth": growth(REWRITTEN, 8, 20)},
        {"growth": growth(REWRITTEN, 9, 20)[:-46]},
        {"growth": "rubbish\n"},
        {"bundle": bundle(REWRITTEN, 20, [(0, 5)])},
        {"bundle": "rubbish"},
        {"bundle": "consilium-audit-bundle/v1\nranges 1\n"},
    ],
)
def test_what_does_not_fit_makes_no_evidence(split, brought):
    assert split(note(ENTRIES, 9), note(REWRITTEN, 20), **brought) == cli.MALFORMED


def test_a_stranger_s_checkpoint_is_refused(split):
    assert split(note(ENTRIES, 9, Log().key), note(REWRITTEN, 20)) == cli.MALFORMED
