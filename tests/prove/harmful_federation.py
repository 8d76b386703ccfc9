"""Item 6 of personalised learning: a federation that harms is seen, one that does not is left in peace."""

import json
import os
import subprocess
import sys

from tests.prove.proof import Proof
from tests.prove.running import FOLDER, REPOSITORY

REPEATS = {True: 2000, False: 200}  # of each simulated site in the suite of the statistics


def prove_harmful(proof: Proof, *, full: bool) -> None:
    """The bench's claims, and the suite that simulates error rates, coverage and power of the rule."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.harmful_federation",
        "--json",
        *(["--full"] if full else []),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "harmful_federation.json").write_text(done.stdout, encoding="utf-8")
    for point in figures["points"]:  # the power curve: information, its bounds are among the claims
        proof.note(
            "6",
            f"{point['kind']} {point['share']:.0%}: flagged as harm {point['harms']:.0%} of "
            f"{point['federations']} (true {point['true_gain']:+.1f} points)",
        )
    for claim in figures["claims"]:
        proof.check("6", claim["claim"], claim["figure"], claim["bound"], claim["passed"])
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=3600"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "CONSILIUM_STATS_N": str(REPEATS[full])}
    tested = subprocess.run(
        [*suite, "tests/fl_jobs/test_benefit_statistics.py"],
        cwd=REPOSITORY, env=settings, capture_output=True, text=True,
    )  # fmt: skip
    last = (tested.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    proof.check(
        "6", f"error rates, coverage, power over {REPEATS[full]} simulated sites", last, "0 failed",
        passed=not tested.returncode,
    )  # fmt: skip
