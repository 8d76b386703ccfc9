"""One federation for several claims: four hospitals, a fifth that is added while a run is active."""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.demo.datasets import DemoSite, cytology
from infra.demo.journey import Journey
from infra.demo.machine import Machine
from infra.demo.person import Person
from tests.prove.proof import console

PLATFORM = (
    "web",
    "agents",
    "worker-default",
    "worker-flare",
    "beat",
    "flare-server",
    "sequencer",
    "signer",
)
FIFTH = DemoSite("hillside", "Hillside Hospital", "Hillside_Trust", "south", index=3)


class Campaign:
    """A started platform with four online sites; ``journey`` acts as its people."""

    def __init__(self, folder: Path, machine: type[Machine] = Machine) -> None:
        self.folder = folder
        self.machine = machine(folder)
        self.study = cytology()
        self.journey = Journey(
            self.machine, self.study, None, say=lambda sentence: console.print(f"      {sentence}")
        )
        self._watcher: Person | None = None

    def start(self) -> None:
        self.machine.set_up()
        self.machine.start_platform()
        self.journey.wait_for_portal()
        self.journey.add_sites(self.study.sites)
        self.journey.add_people()
        self.journey.wait_online([site.name for site in self.study.sites])

    def submit(self, *, rounds: int, sites: tuple[DemoSite, ...]) -> str:
        self.journey.study = replace(self.study, rounds=rounds, sites=sites)
        self.journey.open_study_and_run("dbe")
        return self.journey.run_id

    def data(self, run_id: str) -> dict[str, Any]:
        if self._watcher is None:  # signed in once: a password's slow hash at every look held up the portal
            self._watcher = self.journey.person("data_scientist")
        return self._watcher.json(f"/runs/{run_id}/data.json")

    def wait_round(self, run_id: str, number: int, limit_s: float = 120) -> dict[str, Any]:
        return self._wait(run_id, lambda data: len(data["rounds"]) >= number, f"round {number}", limit_s)

    def wait_end(self, run_id: str, limit_s: float = 280) -> dict[str, Any]:
        ended = {"COMPLETED", "FAILED", "STOPPED"}
        return self._wait(run_id, lambda data: data["state"] in ended, "the end of the run", limit_s)

    def _wait(self, run_id: str, done: Any, what: str, limit_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        data: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):  # the portal may just have been killed
                data = self.data(run_id)
                if done(data):
                    return data
            time.sleep(0.5)
        raise TimeoutError(
            f"waited {limit_s:.0f} s for {what}; state {data.get('state')} {data.get('error')}"
        )

    def platform_pids(self) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = json.loads(
            (self.machine.portal_home / "processes.json").read_text(encoding="utf-8")
        )
        return rows

    def site_processes(self, name: str) -> list[psutil.Process]:
        """Every process that runs in the site's folder: start.sh's agent, client, job, inference."""
        home = str(self.machine.sites_home / name)
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if process.cwd().startswith(home) or home in words:
                    found.append(process)
        return found

    def kill_site(self, name: str) -> int:
        killed = 0
        for process in self.site_processes(name):
            with suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
        self.machine.forget(f"site {name}")
        return killed
