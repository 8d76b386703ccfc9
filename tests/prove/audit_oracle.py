"""Item 2, the part of the tree: pymerkle, which is not ours, gives equal roots and equal inclusion proofs.

It is GPL, so it is no dependency: it is put into a folder that is thrown away and asked by another process.
"""

import json
import subprocess
import sys
import tempfile

from compliance.merkle import inclusion_proof, leaf_hash, root_hash, subtree_of
from tests.prove.proof import Proof

REQUIREMENT = "pymerkle==7.0.0"
SIZES = {False: 130, True: 1030}
ASK = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from pymerkle import InmemoryTree
tree, answers = InmemoryTree(algorithm="sha256"), []
for size in range(1, int(sys.argv[2]) + 1):
    tree.append_entry(b"entry %d" % (size - 1))
    index = 7919 % size if size % 3 else size - 1
    proof = tree.prove_inclusion(index + 1, size).serialize()
    answers.append([tree.get_root(size).hex(), index, proof])
print(json.dumps(answers))
"""


def prove(proof: Proof, *, full: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        installed = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, REQUIREMENT],
            capture_output=True, text=True,
        )  # fmt: skip
        figure = REQUIREMENT if installed.returncode == 0 else installed.stderr.strip()[-160:]
        proof.check("2", "the other library was fetched", figure, "pip", installed.returncode == 0)
        if installed.returncode == 0:
            compare(proof, folder, SIZES[full])


def compare(proof: Proof, folder: str, sizes: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, folder, str(sizes)], capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        proof.check("2", "the other library answered", done.stderr.strip()[-200:], "an answer", passed=False)
        return
    answers = json.loads(done.stdout)
    leaves = [leaf_hash(b"entry %d" % n) for n in range(sizes)]
    tree = subtree_of(leaves)
    roots = [root_hash(leaves[: n + 1]).hex() == answers[n][0] for n in range(sizes)]
    proof.check("2", "roots equal to pymerkle's", f"{sum(roots)} of {sizes} sizes", "all", all(roots))
    same = [
        path_of(answers[n][2]) == [leaves[answers[n][1]], *inclusion_proof(tree, answers[n][1], n + 1)]
        for n in range(sizes)
    ]
    inner = sum(0 < index < size for size, (_, index, _) in enumerate(answers))
    figure = f"{sum(same)} of {sizes}, {inner} of them of a leaf that is neither first nor last"
    passed = all(same) and inner > sizes // 2
    proof.check("2", "inclusion proofs equal to pymerkle's", figure, "all, half of them inside", passed)


def path_of(serialized: dict[str, object]) -> list[bytes]:
    """pymerkle's path begins with the leaf's own hash."""
    return [bytes.fromhex(one) for one in serialized["path"]]
