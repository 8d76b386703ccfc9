"""``python -m tests.bench.main_job``: what the federation costs around the training itself, in one run.

Prints seconds from "add site" to "online", a round over bare local training of the same steps on the same
machine, and the memory of each process.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from fl_jobs.packaging.spec import RunSpec
from infra.demo.datasets import STUDIES
from infra.demo.journey import Journey
from infra.demo.machine import Machine
from tests.bench.bare_training import bare_round_s

console = Console(highlight=False, width=120)
KINDS = {
    "granian": "portal or inference (granian)", "celery": "Celery", "server_train": "NVFlare server",
    "client_train": "NVFlare client", "runner_process": "NVFlare job", "worker_process": "NVFlare job",
    "site_kits.agent": "agent", "infra.supervision": "supervisor", "site_kits.inference": "inference",
    "site_kits.console": "console",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", choices=tuple(STUDIES), default="cytology")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    study = replace(STUDIES[options.study](), rounds=options.rounds)
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as folder:
        figures = measure(study, Path(folder))
    show(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


def measure(study: Any, folder: Path) -> dict[str, Any]:
    data_home = os.environ.get("CONSILIUM_DATA")
    machine = Machine(folder / "demo")
    journey = Journey(machine, study, Path(data_home) if data_home else None, say=console.print)
    try:
        machine.set_up()
        machine.start_platform()
        journey.wait_for_portal()
        online_s = []
        for site in study.sites:
            began = time.monotonic()
            journey.add_sites((site,))
            journey.wait_online([site.name])
            online_s.append(time.monotonic() - began)
        journey.add_people()
        journey.open_study_and_run("dbe")
        while len(journey.person("data_scientist").json(f"/runs/{journey.run_id}/data.json")["rounds"]) < 2:
            time.sleep(0.5)
        rounds_home = machine.portal_home / "flare" / "server" / "rounds" / journey.run_id
        memory, cpu = rss_by_kind(machine), cores_until_trained(machine, rounds_home)
        journey.follow_run()
        rounds = round_seconds(rounds_home)
        homes = [machine.sites_home / site.name for site in study.sites]
        spec = RunSpec.model_validate_json(next(homes[0].glob("personal/**/run_spec.json")).read_text())
    finally:
        machine.stop()
    bare = bare_round_s(spec, homes, folder / "bare", rounds=study.rounds)
    shutil.rmtree(folder / "bare")
    return {
        "study": study.slug,
        "add_to_online_s": [round(seconds, 1) for seconds in online_s],
        "round_s": round(median(rounds), 2),
        "bare_round_s": round(bare, 2),
        "round_over_bare": round(median(rounds) / bare, 3),
        "rss_mb": memory,
        "cores_while_training": cpu,
    }


def cores_until_trained(machine: Machine, rounds_home: Path) -> dict[str, float]:
    """Cores in use by each kind of process from now to the last round."""
    before, began = cpu_by_kind(machine), time.monotonic()
    while '"kind": "validate"' not in (rounds_home / "journal.jsonl").read_text():
        time.sleep(1)
    after, seconds = cpu_by_kind(machine), time.monotonic() - began
    return {kind: round((after[kind] - before.get(kind, 0)) / seconds, 2) for kind in after}


def round_seconds(folder: Path) -> list[float]:
    """Seconds between the commits in the server's journal; the first round holds the start."""
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    times = [datetime.fromisoformat(line["time"]).timestamp() for line in lines if line["kind"] == "round"]
    return [later - earlier for earlier, later in pairwise(times)]


def kind_of(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    return next((name for word, name in KINDS.items() if word in words), "other")


def rss_by_kind(machine: Machine) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for process in machine.processes():
        with suppress(psutil.Error):
            found.setdefault(kind_of(process), []).append(process.memory_info().rss // 2**20)
    return {kind: sorted(sizes, reverse=True) for kind, sizes in sorted(found.items())}


def cpu_by_kind(machine: Machine) -> dict[str, float]:
    """CPU seconds so far, and those of this driver, which acts as the people."""
    found = {"the driver": time.process_time()}
    for process in machine.processes():
        with suppress(psutil.Error):
            used = process.cpu_times()
            kind = kind_of(process)
            found[kind] = found.get(kind, 0.0) + used.user + used.system
    return found


def show(figures: dict[str, Any]) -> None:
    table = Table("figure", "value", title=f"Main job, {figures['study']}")
    for name in ("add_to_online_s", "round_s", "bare_round_s", "round_over_bare"):
        table.add_row(name.replace("_", " "), str(figures[name]))
    for kind, sizes in figures["rss_mb"].items():
        table.add_row(f"RSS MB, {kind}", f"{sum(sizes)} in {len(sizes)}: {sizes}")
    for kind, cores in figures["cores_while_training"].items():
        table.add_row(f"cores while training, {kind}", str(cores))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
