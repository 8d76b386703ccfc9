"""The table of a kill campaign and its claims."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.prove.kill_journals import (
    COHORT_MIN,
    KINDS,
    Kill,
    Watched,
    doubled,
    lost_rounds,
    recoveries,
    rows_differ,
)
from tests.prove.proof import Proof, console

SITES = 4
BACK_P95_S = 60.0


def check(proof: Proof, item: str, kills: list[Kill], runs: list[Watched], wanted: int, path: Path) -> None:
    """The claims; the table first, so that a failed one can be read against it."""
    for kill in kills:
        lines = next(run.lines() for run in runs if run.run_id == kill.run_id)
        recoveries(kill, lines, SITES)
    console.print(table(kills))
    write(kills, runs, path)
    wedged = [
        f"{run.run_id} {run.data.get('state')} {run.data.get('error')}"
        for run in runs
        if run.wedged or run.data.get("state") != "COMPLETED"
    ]
    states = f"{len(wedged)} of {len(runs)} {wedged or ''}"
    proof.check(item, "random kill -9", len(kills), f"{wanted}", len(kills) == wanted)
    proof.check(item, "runs that did not complete", states, "0", bool(runs) and not wedged)
    for claim, find in (
        ("completed rounds lost", lost_rounds),
        ("contributions doubled", doubled),
        ("rows that differ from the journal", rows_differ),
    ):
        faults = [fault for run in runs for fault in find(run)]
        proof.check(item, claim, faults or 0, "0", not faults)
    orphans = sum(run.jobs_left for run in runs)
    proof.check(item, "job processes some time after a run's end", orphans, "0", orphans == 0)
    back = [kill for kill in kills if not kill.kind.endswith("job")]
    missing = [f"{kill.kind} {kill.site}" for kill in back if kill.all_registered_s is None]
    proof.check(item, "not registered again", missing or 0, "0", not missing)
    times = [
        math.inf if kill.registered_s is None else kill.registered_s for kill in back if kill.kind == "server"
    ]
    late = percentile(times, 0.95) or 0.0
    claim = f"server answers with {COHORT_MIN} sites, p95 of {len(times)}"
    proof.check(item, claim, _seconds(late), f"≤ {BACK_P95_S:.0f} s", bool(times) and late <= BACK_P95_S)


def rows(kills: list[Kill]) -> list[dict[str, Any]]:
    """Per kind: how many, and median and 95th percentile of each recovery."""
    found = []
    for kind in KINDS:
        of_kind = [kill for kill in kills if kill.kind == kind]
        row: dict[str, Any] = {"kind": kind, "kills": len(of_kind)}
        for name in ("registered_s", "progress_s", "whole_s"):
            times = [time for kill in of_kind if (time := getattr(kill, name)) is not None]
            row[name] = {"n": len(times), "median": percentile(times, 0.5), "p95": percentile(times, 0.95)}
        found.append(row)
    return found


def table(kills: list[Kill]) -> Table:
    heads = ("killed", "kills", "registered again", "next committed step", "round with every site")
    drawn = Table(*heads, caption="seconds after the kill: median / 95th percentile (n)")
    for row in rows(kills):
        cells = [
            f"{_seconds(row[name]['median'])} / {_seconds(row[name]['p95'])} ({row[name]['n']})"
            for name in ("registered_s", "progress_s", "whole_s")
        ]
        drawn.add_row(row["kind"], str(row["kills"]), *cells)
    return drawn


def write(kills: list[Kill], runs: list[Watched], path: Path) -> None:
    shown = [
        {"run": run.run_id, "rounds": run.rounds, **{key: run.data.get(key) for key in ("state", "jobs")}}
        for run in runs
    ]
    content = {"table": rows(kills), "kills": [asdict(kill) for kill in kills], "runs": shown}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def percentile(times: list[float], share: float) -> float | None:
    """The smallest time that ``share`` of all do not exceed."""
    ordered = sorted(times)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
