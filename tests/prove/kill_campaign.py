"""Random ``kill -9`` of NVFlare server, site parents and job processes over several masked runs.

``python -m tests.prove.kill_campaign --kills 50 --seed N`` prints a table and one line per claim. It kills
the server alone or one site, and the next only after everybody has registered again.
"""

import argparse
import fcntl
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from types import FrameType
from typing import Any

import httpx
import numpy as np

from infra.demo.machine import MachineError
from infra.demo.person import Person
from tests.prove.campaign import Campaign
from tests.prove.kill_journals import COHORT_MIN, KINDS, Kill, Watched, moment
from tests.prove.kill_processes import Registrations, Targets, below, kill_all, kill_once
from tests.prove.kill_report import check
from tests.prove.proof import Proof, console
from tests.prove.running import FOLDER

ITEM = "5"  # of the topic secure-aggregation
ENDED = {"COMPLETED", "FAILED", "STOPPED"}
FIRST_ROUNDS, RUN_S = 30, 75.0  # later runs have as many rounds as last about RUN_S undisturbed
PAUSE_S = (5.0, 20.0)
MISSED_RUNS = 5  # in a row without a kill
KILL_IN_RECOVERY = 0.3  # how often the next kill does not wait for a round; never twice in a row
REGISTER_LIMIT_S, WEDGED_S, JOBS_END_S = 120.0, 300.0, 30.0


class WedgedError(Exception):
    """A run made no step for WEDGED_S although everybody was back."""


@dataclass
class KillCampaign:
    """One platform, the runs on it and what was killed."""

    run: Campaign
    random: np.random.Generator
    kills: list[Kill] = field(default_factory=list)
    runs: list[Watched] = field(default_factory=list)
    _deck: list[str] = field(default_factory=list)
    _since_round: int = 0

    def __post_init__(self) -> None:
        machine = self.run.machine
        self.names = {site.name for site in self.run.study.sites}
        self.targets = Targets(machine.portal_home, machine.sites_home)
        self.registrations = Registrations(machine.portal_home / "logs" / "flare-server.log")

    def strike(self, wanted: int) -> None:
        """Runs one after another until ``wanted`` kills are done and the last run has ended.

        Runs that end before a kill could hit them are a finding, not a reason to go on for ever.
        """
        missed = 0
        while len(self.kills) < wanted and missed < MISSED_RUNS:
            before, watched = len(self.kills), self._submit()
            time.sleep(self.random.uniform(*PAUSE_S))
            while len(self.kills) < wanted and not self._ended(watched):
                self._one_kill(watched)
            self._wait_end(watched)
            missed = missed + 1 if len(self.kills) == before else 0

    def _submit(self) -> Watched:
        rounds = self._rounds()
        self.run.journey.wait_online(sorted(self.names))
        run_id = self.run.submit(rounds=rounds, sites=self.run.study.sites)
        folder = self.run.machine.portal_home / "flare" / "server" / "rounds" / run_id
        watched = Watched(run_id, folder, rounds)
        self.runs.append(watched)
        self._person: Person = self.run.journey.person("data_scientist")
        self._since_round = 0
        return watched

    def _rounds(self) -> int:
        gaps = [
            moment(after) - moment(before)
            for watched in self.runs
            for before, after in _neighbours([line for line in watched.lines() if line["kind"] == "round"])
        ]
        return min(max(round(RUN_S / median(gaps)), 15), 150) if gaps else FIRST_ROUNDS

    def _one_kill(self, watched: Watched) -> None:
        """Draw a kind, kill, wait until the federation is whole again and then a random while."""
        if not self._deck:
            self._deck = [str(kind) for kind in self.random.permutation(KINDS)]
        kind, site = self._deck.pop(), str(self.random.choice(sorted(self.names)))
        kill = Kill(kind, watched.run_id, 0.0, "" if kind.startswith("server") else site)
        place, before = self.registrations.now(), watched.committed()
        if not self._hit(kill, watched):
            self._deck.insert(0, kind)  # the run ended before there was such a process
            return
        self.kills.append(kill)
        pause = self.random.uniform(*PAUSE_S)
        console.print(
            f"      kill {len(self.kills)}: {kind} {kill.site} ({kill.processes} processes), round {before}"
        )
        self._wait_registered(kill, place)
        time.sleep(max(0.0, kill.at + pause - time.time()))
        hurry = self.random.random() < KILL_IN_RECOVERY and self._since_round == 0
        if hurry:
            self._since_round = 1
            return
        self._wait(watched, lambda: watched.committed() > before + 1 or self._ended(watched))
        self._since_round = 0

    def _hit(self, kill: Kill, watched: Watched) -> bool:
        find = {
            "server": self.targets.server_tree,
            "server job": self.targets.server_jobs,
            "site client": lambda: self.targets.client(kill.site),
            "site job": lambda: self.targets.site_jobs(kill.site),
            "whole site": lambda: self.targets.whole_site(kill.site),
        }[kill.kind]
        self._wait(watched, lambda: bool(find()) or self._ended(watched))
        if self._ended(watched):
            return False
        victims = find()
        watched.remember()
        kill.at = time.time()
        kill.processes = kill_all(find) if kill.kind == "whole site" else kill_once(victims)
        if kill.kind == "whole site":
            self.run.machine.forget(f"site {kill.site}")
            time.sleep(self.random.uniform(0.5, 6))  # until somebody has started it again
            self.run.machine.start_site(self.run.machine.sites_home / kill.site)
        return kill.processes > 0

    def _wait_registered(self, kill: Kill, place: int) -> None:
        """Job processes are no members of the federation: their parents stay registered."""
        if kill.kind.endswith("job"):
            return
        names = self.names if kill.kind == "server" else {kill.site}
        self.registrations.wait(place, names, min(COHORT_MIN, len(names)), REGISTER_LIMIT_S)
        kill.registered_s = self._passed(kill, place, names, min(COHORT_MIN, len(names)))
        self.registrations.wait(place, names, len(names), REGISTER_LIMIT_S)
        kill.all_registered_s = self._passed(kill, place, names, len(names))

    def _passed(self, kill: Kill, place: int, names: set[str], fewest: int) -> float | None:
        back = len(self.registrations.since(place) & names) >= fewest
        return time.time() - kill.at if back else None

    def _ended(self, watched: Watched) -> bool:
        with suppress(httpx.TransportError):
            watched.data = self._person.json(f"/runs/{watched.run_id}/data.json")
        return watched.data.get("state") in ENDED

    def _wait(self, watched: Watched, done: Any) -> None:
        """Wait as long as the journal grows or the portal's state changes now and then."""
        last, since = None, time.monotonic()
        while not done():
            self.run.machine.check_alive()
            shown = (len(watched.lines()), watched.data.get("state"), len(watched.data.get("jobs", [])))
            if shown != last:
                last, since = shown, time.monotonic()
            if time.monotonic() - since > WEDGED_S:
                watched.wedged = True
                raise WedgedError(f"Run {watched.run_id} has not moved for {WEDGED_S:.0f} s: {shown}")
            time.sleep(0.5)

    def _wait_end(self, watched: Watched) -> None:
        self._wait(watched, lambda: self._ended(watched))
        jobs = [(job["epoch"], job["code"]) for job in watched.data["jobs"]]
        console.print(f"      {watched.data['state']} after {len(jobs)} jobs {jobs} {watched.data['error']}")
        deadline = time.monotonic() + JOBS_END_S
        while (left := self.targets.all_jobs()) and time.monotonic() < deadline:
            time.sleep(0.5)
        watched.jobs_left = len(left)


def campaign(proof: Proof, kills: int, seed: int) -> None:
    """Start the platform, kill, check. Nothing it started outlives it."""
    with _alone(), _undisturbed_end():
        folder = FOLDER / "kills"
        kill_all(lambda: below(folder))  # of a campaign that was killed itself
        shutil.rmtree(folder, ignore_errors=True)
        run = Campaign(folder)
        strikes = KillCampaign(run, np.random.default_rng(seed))
        try:
            run.start()
            proof.section(ITEM, lambda: strikes.strike(kills))
            proof.section(ITEM, lambda: report(proof, strikes, kills))
        finally:
            _ignore_signals()
            left = run.machine.stop()
            left += kill_all(lambda: below(folder))
    proof.check(ITEM, "processes left after the stop", left, "0", left == 0)


def report(proof: Proof, strikes: KillCampaign, wanted: int) -> None:
    check(proof, ITEM, strikes.kills, strikes.runs, wanted, FOLDER / "kills.json")
    found = strikes.run.journey.verify_audit()
    figure = f"{found['verified']} of {found['entries']}"
    proof.check(ITEM, "audit entries that verify", figure, "all", found["verified"] == found["entries"])


def _neighbours(lines: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(one, two) for one, two in pairwise(lines) if one["epoch"] == two["epoch"]]


@contextmanager
def _alone() -> Iterator[None]:
    """One campaign at a time: the next one ends what is left of the one before."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "kills.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MachineError(
                "A kill campaign runs already. Wait for its end, or press Ctrl-C there."
            ) from None
        yield


def _interrupted(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def _ignore_signals() -> None:
    """Whoever is impatient while everything is being ended would leave processes behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _undisturbed_end() -> Iterator[None]:
    """A terminal that is closed and a polite kill end the campaign as Ctrl-C does: in order."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupted) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    proof = Proof("kill-campaign")
    try:
        proof.section(ITEM, lambda: campaign(proof, options.kills, options.seed))
    except KeyboardInterrupt:
        console.print("Interrupted; everything that was started has been ended.")
        return 130
    return proof.close(FOLDER)


if __name__ == "__main__":
    sys.exit(main())
