"""The claims of secure aggregation: what the server cannot see, what a dead site or server cannot break."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.bench.secure_agg import KEYS, bound_text, verdict
from tests.prove.kill_campaign import campaign
from tests.prove.proof import Proof
from tests.prove.running import FOLDER, REPOSITORY

MESSAGES = {True: 200_000, False: 5_000}
KILLS = {True: 50, False: 6}
MANY = ("-k", "decoders or floor or properties or crashes or adversary_random", "--timeout=3600")


def prove(*, full: bool, only: list[str]) -> int:
    proof = Proof("secure-aggregation")
    steps = {
        "1": lambda: suites(proof, full=full),
        "2": lambda: bench(proof, full=full),
        "3": lambda: real_runs(proof),
        "4": lambda: hostile_server(proof),
        "5": lambda: campaign(proof, kills=KILLS[full], seed=1),
        "6": lambda: overhead(proof, full=full),
    }
    return proof.run(steps, only, FOLDER)


def suites(proof: Proof, *, full: bool) -> None:
    """Known answers, second implementation, properties, dropouts, adversary, fuzz; coverage of branches.

    Coverage is measured with few mutated messages: tracing every line makes them seven times as slow.
    """
    report = FOLDER / "coverage.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    tracing = ("--cov=secure_agg", "--cov-branch", f"--cov-report=json:{report}")
    done = pytest("tests/secure_agg", *tracing, CONSILIUM_SECAGG_N=str(MESSAGES[False]))
    proof.check("1", "suites of the protocol", outcome_of(done), "0 failed", done.returncode == 0)
    many = done if not full else pytest("tests/secure_agg", *MANY, CONSILIUM_SECAGG_N=str(MESSAGES[True]))
    figure = f"{MESSAGES[full]:,}: {outcome_of(many)}"
    proof.check("1", "mutated messages, only E_DECODE", figure, "0 other", many.returncode == 0)
    totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    missing = totals["missing_lines"] + totals["missing_branches"]
    figure = f"{totals['percent_covered']:.2f} %, {missing} lines or branches missing"
    proof.check("1", "branch coverage of secure_agg", figure, "100 %", missing == 0)


def bench(proof: Proof, *, full: bool) -> None:
    command = [sys.executable, "-m", "tests.bench.secure_agg", "--json", *([] if full else ["--small"])]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    figures = json.loads(done.stdout[done.stdout.index("{") :])
    for name in KEYS:
        value, bound = figures[name], bound_text(figures, name)
        if value is None and not full:
            proof.note("2", f"{name}: not measured, needs Flower or the full size")
            continue
        proof.check("2", name, value, bound, verdict(figures, name) == "PASS")


def real_runs(proof: Proof) -> None:
    done = pytest("tests/e2e/test_masked_run.py", "-vv", CONSILIUM_KILL_STEPS="all")
    for name, outcome in re.findall(r"::(test_\S+) (PASSED|FAILED|ERROR)", done.stdout):
        proof.check("3", name.removeprefix("test_").replace("_", " "), outcome, "PASSED", outcome == "PASSED")
    proof.check("3", "all of them", last_line(done), "0 failed", done.returncode == 0)


def hostile_server(proof: Proof) -> None:
    """The programmable server of the adversary suite, and the disk of a real one."""
    done = pytest("tests/secure_agg", "-k", "adversary or checker or regression", CONSILIUM_SECAGG_N="1000")
    proof.check(
        "4", "hostile servers and sites: what was released", last_line(done), "0 failed", not done.returncode
    )
    done = pytest("tests/e2e/test_masked_run.py", "-k", "no_update_of_one_site")
    proof.check(
        "4", "no update of one site on the server's disk", last_line(done), "0 failed", not done.returncode
    )


def overhead(proof: Proof, *, full: bool) -> None:
    report = Path(FOLDER) / "masking_overhead.json"
    sizes = ["--rounds", "5", "--turns", "3"] if full else ["--rounds", "3", "--turns", "1"]
    command = [sys.executable, "-m", "tests.bench.masking_overhead", "--json", str(report), *sizes]
    subprocess.run(command, cwd=REPOSITORY, check=False)
    figures = json.loads(report.read_text(encoding="utf-8"))
    numbers, ratio = figures["numbers"], figures["round_masked_over_plain"]
    seconds = f"{figures['round_masked_s']} s over {figures['round_plain_s']} s"
    proof.check("6", "numbers in the shared model", numbers, "≥ 10,000,000", numbers >= 10_000_000)
    proof.check("6", "a masked round over a plain one", f"{ratio} ({seconds})", "≤ 1.10", ratio <= 1.10)


def pytest(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", **environment}
    return subprocess.run(command, cwd=REPOSITORY, env=settings, capture_output=True, text=True)


def outcome_of(done: subprocess.CompletedProcess[str]) -> str:
    """pytest's closing line, and the tests that failed."""
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return " · ".join([last_line(done), *failed])


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
