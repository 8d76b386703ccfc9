"""``python -m tests.bench.masking_overhead``: what masks add to a round of a 10M-parameter model.

Real NVFlare processes, four sites on this machine, plain and masked runs in turn; the same data, seed and
steps. A round is the time between two commits in the server's journal.
"""

import argparse
import json
import sys
import tempfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fl_jobs.data import register
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec
from fl_jobs.simulate import with_tensors
from tests.e2e.federation import Federation, Run, admin_session, submit

SITES = ("north", "east", "south", "west")
LABELS = ("report", "question")
BUCKETS, DIM = 163_840, 64  # 10.5 million numbers in the embedding
GOAL = 1.10
console = Console(highlight=False, width=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--cases", type=int, default=1200, help="texts per site")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="consilium-masking-") as folder:
        figures = measure(Path(folder), options.rounds, options.turns, options.cases)
    show(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0 if figures["round_masked_over_plain"] <= GOAL else 1


def measure(folder: Path, rounds: int, turns: int, cases: int) -> dict[str, Any]:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with Federation(folder) as federation:
        for number, name in enumerate(SITES):
            federation.add_site(name)
            write_texts(federation.site_home(name), cases, seed=number)
        federation.start_server()
        federation.start_sites()
        with admin_session(federation, "runs") as session:
            for turn in range(turns):
                for masked in (False, True) if turn % 2 == 0 else (True, False):
                    run = submit(federation, session, run_spec(rounds, masked=masked), SITES)
                    run.wait_for("finish", timeout_s=900)
                    run.wait_for_end()
                    seconds[masked] += round_seconds(run)
                    console.print(
                        f"{'masked' if masked else 'plain'}: {[round(s, 2) for s in round_seconds(run)]}"
                    )
    numbers = sum(tensor.size for tensor in run_spec(rounds, masked=True).shared().values())
    return {
        "numbers": numbers,
        "round_plain_s": round(median(seconds[False]), 2),
        "round_masked_s": round(median(seconds[True]), 2),
        "round_masked_over_plain": round(median(seconds[True]) / median(seconds[False]), 3),
    }


def write_texts(home: Path, cases: int, *, seed: int) -> None:
    """Synthetic tickets: what is measured is time, not what is learned."""
    folder, generator = home / "data" / "tickets", np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = ["text,label,group"]
    for number in range(cases):
        words = " ".join(str(word) for word in generator.integers(10_000, size=12))
        lines.append(f"{LABELS[number % 2]} {words},{LABELS[number % 2]},t{number}")
    (folder / "texts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    manifest = {"name": "tickets", "kind": "text", "file": "texts.csv", "labels": list(LABELS)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    register(folder, home / "registered")


def run_spec(rounds: int, *, masked: bool) -> RunSpec:
    task = TaskSpec(kind="text", labels=LABELS, max_characters=100)
    spec = RunSpec(
        study=StudySpec(slug="tickets", purpose="bench", dataset="tickets", task=task),
        algorithm="fedavg",
        hyper_parameters={},
        model=ModelSpec(name="text_hash", arguments={"buckets": BUCKETS, "dim": DIM}),
        rounds=rounds,
        seed=7,
        min_sites=3,
        policy=PolicySpec(secure_aggregation=masked),
    )
    return with_tensors(spec)


def round_seconds(run: Run) -> list[float]:
    times = [
        datetime.fromisoformat(line["time"]).timestamp() for line in run.lines if line["kind"] == "round"
    ]
    return [later - earlier for earlier, later in pairwise(times)]


def show(figures: dict[str, Any]) -> None:
    table = Table("figure", "value", title="Masks in a real run")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
