"""Items 1 and 2 of personalised learning: beside PFLlib, and many sites on one machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.anchor_cells import METHODS
from tests.bench.anchors import BOUNDS, data_folder, ratios, verdicts
from tests.bench.many_sites import verdicts as many_verdicts
from tests.prove.proof import Proof
from tests.prove.running import FOLDER, REPOSITORY

GUESSED = 0.1  # of ten digits
KEPT = Path(REPOSITORY) / "tests" / "bench" / "anchors.jsonl"
AGAIN = 6
FINE = ("equivalent", "equivalent or better")


def anchors(proof: Proof, *, full: bool) -> None:
    """Accuracy and cost beside PFLlib; CONSILIUM_PFLLIB names a checkout of it."""
    checkout = os.environ.get("CONSILIUM_PFLLIB", "")
    if not (data_folder() / "anchor_results.json").exists():
        if full:
            proof.check("1", "anchors", "no partitions here", "CONSILIUM_DATA is set", passed=False)
        else:
            proof.note("1", "anchors: not measured, CONSILIUM_DATA names no partitions")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    jobs = os.environ.get("CONSILIUM_JOBS", "1")
    campaign = ["--seeds", "5" if checkout else "3", "--jobs", jobs, "--honest", "3"]
    if checkout:  # hours of rows measured before, by code that has not changed since, and six of them anew
        campaign += ["--keep", str(KEPT), "--again", str(AGAIN)]
    size = campaign if full else ["--small"]
    rows = bench("anchors", *size, *(["--pfllib", checkout] if checkout else []))
    lines = verdicts(rows)
    if full:
        wanted, found = asked_of(), {(line["partition"], line["algorithm"]) for line in lines}
        proof.check("1", "partitions × methods", len(found), f"the {len(wanted)} stored", found == wanted)
    for line in lines:
        name = f"{line['partition']}, {line['algorithm']}, {line['seeds']} seeds"
        figure = f"{line['shown']}, {line.get('difference', float('nan')):+.2%}"
        if full:  # one seed cannot show it: "not tested" is not passed
            proof.check("1", name, figure, "≥ −1 point (TOST)", passed=line["shown"] in FINE)
        else:
            proof.note("1", f"{name}: {figure}")
    for key, value in ratios(rows).items():
        figure = f"{value['median']:.2f} (worst cell {value['worst']:.2f})"
        proof.check(
            "1", f"{key}, ours ÷ PFLlib's", figure, f"≤ {BOUNDS[key]}", value["median"] <= BOUNDS[key]
        )
    _repeated(proof, rows)
    if not full:
        best = {row["algorithm"]: round(row["best"], 3) for row in rows}
        learned = all(row["best"] > 2 * GUESSED for row in rows if row["algorithm"] == "FedPer")
        proof.check("1", "anchors, 6 rounds, one seed", best, "FedPer above 20 %", passed=learned)


def asked_of() -> set[tuple[str, str]]:
    """Partition and tag of every result of PFLlib that is stored, of a method that we have."""
    stored = json.loads((data_folder() / "anchor_results.json").read_text(encoding="utf-8"))["pfllib"]
    tags = {method.tag for method in METHODS}
    return {(one["dataset"], one["tag"]) for one in stored if one["tag"] in tags}


def _repeated(proof: Proof, rows: list[dict[str, Any]]) -> None:
    """Kept rows that were measured again: on one kind of processor neither curve may move."""
    for row in rows:
        if not (again := row.get("again")):
            continue
        name = f"measured again: {row['partition']}, {row['algorithm']}, seed {row['seed']}"
        figure = f"ours moved {again['curve']:.2%}, PFLlib's {again['pfllib_curve']:.2%}"
        if again["same_processor"]:
            proof.check(
                "1", name, figure, "0 % on one processor", passed=again["curve"] == again["pfllib_curve"] == 0
            )
        else:
            proof.note("1", f"{name}: {figure}, on another processor")


def many_sites(proof: Proof, *, full: bool) -> None:
    figures = bench("many_sites", *([] if full else ["--small"]), exits=(0, 1))[0]  # 1: a bound is missed
    for what, figure, bound, passed in many_verdicts(figures):
        proof.check("2", what, figure, bound, passed)
    seconds = f"{figures['seconds_per_round']:.1f} s, {figures['cpu_s_per_round']:.1f} s of CPU"
    proof.note("2", f"a round of {figures['sites_per_round']} sites: {seconds}")
    proof.note("2", f"MNIST CNN stacked: {figures['stacked_mnist']:.2f}×")


def bench(name: str, *arguments: str, exits: tuple[int, ...] = (0,)) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", f"tests.bench.{name}", "--json", *arguments]
    done = subprocess.run(command, cwd=Path(REPOSITORY), capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        raise RuntimeError(f"tests.bench.{name} printed nothing: {done.stderr.strip()[-300:]}")
    if done.returncode not in exits:  # the rows before the one that failed are no proof
        raise RuntimeError(f"tests.bench.{name} ended after {len(rows)} rows: {done.stderr.strip()[-300:]}")
    return rows
