"""Show 2 of the life of a site: certificates revoked, expired, foreign, renewed away, renewed in a run."""

import json
import shutil
import statistics
import subprocess
import sys
from typing import Any

from tests.prove import certificate_runs
from tests.prove.proof import Proof
from tests.prove.running import FOLDER, REPOSITORY

TRIALS = {True: 200, False: 10}
RUNS = {True: 5, False: 1}
EFFECTIVE_S = 5.0
UNAUTHORIZED = 401
Timed = list[dict[str, Any]]


def prove_certificates(proof: Proof, *, full: bool) -> None:
    """Cheap trials against one running NVFlare server, then runs of whole sites with their agents."""
    proof.section("2", lambda: trials(proof, count=TRIALS[full]))
    proof.section("2", lambda: certificate_runs.prove_renewal(proof))
    proof.section("2", lambda: certificate_runs.prove_revocation(proof, repeats=RUNS[full]))


def trials(proof: Proof, *, count: int) -> None:
    folder = FOLDER / "site-certificates"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.prove.certificate_trials", str(folder), str(count)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-1500:])
    found = json.loads(done.stdout.splitlines()[-1])
    revoked: Timed = found["revoked"]
    cut = all_within(revoked)
    proof.check("2", "open connections cut after a revocation", times(revoked), f"≤ {EFFECTIVE_S:.0f} s", cut)
    good = [row for row in revoked if row["before"] and not row["let_in_after"]]
    proof.check(
        "2", "revoked sites that came in again", f"{count - len(good)} of {count}", "0", len(good) == count
    )
    shut = sum(row["door_after"] == UNAUTHORIZED for row in revoked)
    proof.check("2", "agents' door refuses the revoked site", f"{shut} of {count}", "all", shut == count)
    suspended: Timed = found["suspended"]
    whole = all(row["before"] and row["refused"] and row["back"] for row in suspended)
    figure = f"{times(suspended)}; back after resuming: {sum(row['back'] for row in suspended)}"
    proof.check("2", "suspended at once and resumed", figure, "≤ 5 s, all", whole and all_within(suspended))
    expired = found["expired"]
    holds = expired["before"] and expired["refused"] and expired["door"] == UNAUTHORIZED
    claim = "an open connection after its certificate expired"
    proof.check("2", claim, times([expired]), "cut ≤ 5 s, refused", passed=holds and all_within([expired]))
    for kind, refused in found["refused"].items():
        figure = f"{sum(refused)} of {len(refused)}"
        proof.check("2", f"certificates {kind}, refused", figure, "all", all(refused) and bool(refused))
    registered = found["registration"]
    expected = {"counts": True, "old inside new TLS": False}
    proof.check("2", "NVFlare's own registration", registered, str(expected), registered == expected)


def times(rows: Timed) -> str:
    """How many were cut, the median and the worst time."""
    seconds = [row["cut_s"] for row in rows if row["cut_s"] is not None]
    if not seconds:
        return f"0 of {len(rows)} cut"
    middle, worst = statistics.median(seconds), max(seconds)
    return f"{len(seconds)} of {len(rows)}, median {middle:.2f} s, worst {worst:.2f} s"


def all_within(rows: Timed) -> bool:
    return bool(rows) and all(row["cut_s"] is not None and row["cut_s"] <= EFFECTIVE_S for row in rows)
