"""Ours and PFLlib where both mean the same: does every round count the same test cases as correct?

``python -m tests.bench.same_numbers --pfllib DIR [--partition NAME] [--rounds N] [--seed N] [--only TAG …]``

Both sides start from the same weights and see the same cases in the same order. The sites' training parts are
cut to whole batches, so that no short batch is left to count or to drop (ADR 11), and GPFL and DBE run as
their authors' code does (``tests.bench.authors_ways``). What is left is rounding: a method passes when no
measurement differs by more than one in a hundred test cases. So the rows of ``tests.bench.anchors`` differ by
the short batch and by the deviations our docstrings name. FedCP and FedALA draw numbers no file can give the
other side.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.bench.anchor_cells import LOOP, METHODS
from tests.bench.anchors import data_folder, ours, theirs

DRAWN = ("FedCP", "FedALA")
BOUND = 0.01  # of the test cases: rounding grows while a network learns fast


def cut(partition, folder, size):
    """Copy a partition with training parts of whole batches of ``size``; returns its number of test cases."""
    folder.mkdir(parents=True)
    shutil.copy(partition / "meta.json", folder)
    tests = 0
    for path in sorted(partition.glob("client_*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            held = dict(arrays)
        whole = len(held["y_train"]) // size * size
        if not whole:
            raise SystemExit(f"{path} has fewer than {size} training cases. Name another partition.")
        held |= {name: held[name][:whole] for name in ("x_train", "y_train")}
        tests += len(held["y_test"])
        np.savez(folder / path.name, **held)
    return tests


def difference(checkout, partition, method, *, rounds, seed, tests):
    """Test cases by which the two differ in each round."""
    with tempfile.TemporaryDirectory() as scratch:
        start = str(Path(scratch) / "start.npz")
        mine = ours(partition, method, rounds=rounds, seed=seed, start=start, authors_way=True)
        peer = theirs(checkout, partition, method, rounds=rounds, seed=seed, start=start, every=1)
    both = zip(mine["curve"], peer["curve"], strict=True)
    return [round(abs(one - other) * tests) for one, other in both], mine["curve"][-1]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pfllib", type=Path, required=True, help="a checkout of PFLlib, outside the tree")
    parser.add_argument("--partition", default="digits_a01_c10")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="tags, as in anchor_results.json")
    options = parser.parse_args(arguments)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        partition = Path(scratch) / options.partition
        tests = cut(data_folder() / options.partition, partition, LOOP["batch_size"])
        for method in METHODS:
            if method.theirs in DRAWN or (options.only and method.tag not in options.only):
                continue
            apart, last = difference(
                options.pfllib, partition, method, rounds=options.rounds, seed=options.seed, tests=tests
            )
            failed |= max(apart) > BOUND * tests
            word = "FAIL" if max(apart) > BOUND * tests else "PASS"
            print(f"{word}  {method.tag}: at most {max(apart)} of {tests} test cases apart (bound: 1 %) "
                  f"in {sum(map(bool, apart))} of {len(apart)} measurements; at the end {last:.2%}",
                  flush=True)  # fmt: skip
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
