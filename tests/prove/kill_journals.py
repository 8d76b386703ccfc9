"""What the server's journals and the portal's rows say after the kills: nothing lost, nothing doubled."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

KINDS = ("server", "server job", "site client", "site job", "whole site")
COHORT_MIN = 3
PROGRESS = ("phase", "round", "validate", "finish")


@dataclass
class Kill:
    """One kill and how the platform came out of it; times in seconds after the kill."""

    kind: str
    run_id: str
    at: float
    site: str = ""
    processes: int = 0
    registered_s: float | None = None  # server: three sites are back; a site: it is back
    all_registered_s: float | None = None
    progress_s: float | None = None  # the next committed step of the run
    whole_s: float | None = None  # the next round with every site


@dataclass
class Watched:
    """One run of the campaign: what its journal once held must stay in it."""

    run_id: str
    folder: Path
    rounds: int
    data: dict[str, Any] = field(default_factory=dict)
    wedged: bool = False
    once_committed: list[dict[str, Any]] = field(default_factory=list)
    jobs_left: int = 0

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines on the server's disk; half a line is not committed."""
        with suppress(FileNotFoundError):
            raw = (self.folder / "journal.jsonl").read_bytes()
            return [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
        return []

    def remember(self) -> None:
        """Called just before a kill."""
        self.once_committed = self.lines()

    def committed(self) -> int:
        return sum(line["kind"] == "round" for line in self.lines())


def moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def recoveries(kill: Kill, lines: list[dict[str, Any]], sites: int) -> None:
    """Fill in when the run committed something again, and when every site was in a round again."""
    after = [line for line in lines if moment(line) > kill.at]
    steps = [moment(line) for line in after if line["kind"] in PROGRESS]
    whole = [moment(line) for line in after if line["kind"] == "round" and len(line["sites"]) == sites]
    kill.progress_s = steps[0] - kill.at if steps else None
    kill.whole_s = whole[0] - kill.at if whole else None


def lost_rounds(run: Watched) -> list[str]:
    """What was committed once and is not there any more, or is another one."""
    lines = run.lines()
    faults = []
    if lines[: len(run.once_committed)] != run.once_committed:
        faults.append(f"{run.run_id}: the journal before the last kill is not the journal's beginning")
    numbers = [line["round"] for line in lines if line["kind"] == "round"]
    if numbers != list(range(1, run.rounds + 1)):
        faults.append(f"{run.run_id}: rounds {numbers} instead of 1 to {run.rounds}, each once")
    for line in lines:
        if "file" in line and _digest(run.folder / line["file"]) != line["file_sha256"]:
            faults.append(f"{run.run_id}: {line['file']} is missing or altered")
    return faults


def doubled(run: Watched) -> list[str]:
    """A site twice in a round, a round twice in the run, or an older job that wrote after a newer one."""
    lines, faults = run.lines(), []
    rounds = [line for line in lines if line["kind"] == "round"]
    pairs = [(line["round"], site) for line in rounds for site in line["sites"]]
    if len(pairs) != len(set(pairs)):
        faults.append(f"{run.run_id}: {len(pairs) - len(set(pairs))} contributions counted twice")
    epochs = [line["epoch"] for line in lines]
    if epochs != sorted(epochs):
        faults.append(f"{run.run_id}: an older job wrote after a newer one")
    if len([line for line in lines if line["kind"] == "finish"]) > 1:
        faults.append(f"{run.run_id}: finished twice")
    jobs = [(job["epoch"], job["start_round"]) for job in run.data.get("jobs", [])]
    if jobs != sorted(jobs) or len({epoch for epoch, _start in jobs}) != len(jobs):
        faults.append(f"{run.run_id}: the portal's jobs do not count upwards: {jobs}")
    return faults


def rows_differ(run: Watched) -> list[str]:
    """The portal's rows against the server's journal, field by field."""
    written = {
        line["round"]: (line["epoch"], sorted(line["sites"]), line.get("aggregate_sha256"))
        for line in run.lines()
        if line["kind"] == "round"
    }
    rows = {
        row["number"]: (row["epoch"], sorted(row["sites"]), row["aggregate_sha256"])
        for row in run.data.get("rounds", [])
    }
    if len(rows) != len(run.data.get("rounds", [])):
        return [f"{run.run_id}: a round has two rows"]
    differing = [number for number in rows.keys() | written.keys() if rows.get(number) != written.get(number)]
    return [f"{run.run_id}: rows differ from the journal in rounds {sorted(differing)}"] if differing else []


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""
