"""Item 1 of TOPIC=audit: a copied log rewritten with stolen key and full rights, against real witnesses."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compliance.drill import KINDS, Drill, Trial
from compliance.drill_attacks import made_up_entry
from compliance.witness_policy import policy_of
from tests.compliance.quorums import forks_accepted
from tests.prove.proof import Proof

VERIFIER = Path(__file__).parents[2] / "compliance" / "verify.py"
SITES, ENTRIES = 5, 60


def prove(proof: Proof, *, full: bool) -> None:
    """Each kind 300 times (10 by default), as many legal appends, and the formula for two forks."""
    count = 300 if full else 10
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill([made_up_entry() for _ in range(ENTRIES)], SITES, Path(folder) / "sites")
        policy = Path(folder) / "policy.txt"
        policy.write_text(str(policy_of(drill.log_key, {})), encoding="utf-8")
        for kind in KINDS:
            trials = [drill.rewrite(kind) for _ in range(count)]
            _judge(proof, kind, trials, policy)
        legal = [drill.append() for _ in range(count)]
        alarms = sum(not trial.was_accepted or bool(trial.evidence) for trial in legal)
        claim = f"false alarms over legal appends, {SITES} sites"
        proof.check("1", claim, f"{alarms} of {count}", "0", passed=alarms == 0)
        drill.close()
    wrong = [
        (n, q, f)
        for n in range(3, 10 if full else 6)
        for q in range(1, n + 1)
        for f in range(n + 1)
        if forks_accepted(n, q, f) != (f >= 2 * q - n)
    ]
    sizes = "n = 3 … 9, every q and f" if full else "n = 3 … 5, every q and f"
    proof.check("1", f"a fork passes only if f ≥ 2q − n, {sizes}", f"{len(wrong)} exceptions", "0", not wrong)


def _judge(proof: Proof, kind: str, trials: Sequence[Trial], policy: Path) -> None:
    accepted = [trial.what for trial in trials if trial.was_accepted]
    claim = f"{kind}: rewritings that a quorum of {SITES} sites signed"
    proof.check("1", claim, f"{len(accepted)} of {len(trials)}", "0", not accepted)
    deceived = sum(trial.deceived for trial in trials)
    claim = f"{kind}: single sites that signed what does not go on from what they had signed"
    proof.check("1", claim, f"{deceived} of {len(trials) * SITES}", "0", deceived == 0)
    verified = sum(bool(trial.evidence) and _is_proven(trial.evidence[0], policy) for trial in trials)
    claim = f"{kind}: evidence that verify.py proves offline"
    proof.check("1", claim, f"{verified} of {len(trials)}", "all", verified == len(trials))


def _is_proven(evidence: str, policy: Path) -> bool:
    path = policy.with_name("evidence.txt")
    path.write_text(evidence, encoding="utf-8")
    command = [sys.executable, "-I", str(VERIFIER), "--evidence", str(path), "--policy", str(policy)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
