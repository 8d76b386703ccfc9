"""Item 7: the tests leave out no branch of what decides about a proof; the vectors on Python 3.8 as well."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.prove.proof import Proof
from tests.prove.running import FOLDER, REPOSITORY

MODULES = ("canonical", "merkle", "note", "verify", "bundle", "tlog_proof", "evidence_file", "witness_policy")


def prove(proof: Proof) -> None:
    report = FOLDER / "audit-coverage.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    traced = [f"--cov=compliance.{name}" for name in MODULES]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/compliance", *traced]
    command += ["--cov-branch", f"--cov-report=json:{report}", "--timeout=1800"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    said = done.stdout.strip().splitlines() or ["nothing was said"]
    failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
    figure = "; ".join([said[-1], *failed])
    proof.check("7", "tests of the formats and of the verifier", figure, "0 failed", done.returncode == 0)
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    for name in MODULES:
        totals = files[f"compliance/{name}.py"]["summary"]
        missing = totals["missing_lines"] + totals["missing_branches"]
        figure = f"{totals['num_statements']} lines, {totals['num_branches']} branches, {missing} missing"
        whole = missing == 0 and totals["num_statements"] > 0
        proof.check("7", f"branch coverage of {name}", figure, "0 missing", whole)
    old_python(proof)


def old_python(proof: Proof) -> None:
    managed = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
    found = [one for one in (shutil.which("python3.8"), *managed) if one and runs(one)]
    if not found:
        proof.note("7", "verify.py on Python 3.8: not run, there is none on this machine")
        return
    script = REPOSITORY / "tests" / "prove" / "audit_vectors.py"
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [str(found[0]), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
    passed = done.returncode == 0 and done.stdout.strip().endswith(" 0 differ")
    proof.check("7", "vectors on Python 3.8", done.stdout.strip() or done.stderr[-200:], "0 differ", passed)


def runs(python: str | Path) -> bool:
    """Whether it starts: a version manager's shim may stand for nothing."""
    return subprocess.run([str(python), "--version"], capture_output=True).returncode == 0
