"""Whom a kill hits. Only processes below the campaign's own folder, found by folder and descent."""

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

JOB = {"server": "runner_process", "site": "worker_process"}
CLIENT = "client_train"
_BACK = re.compile(r"New client (\S+?)@|Re-activate the client: (\S+) at")
_HOMES = ("HOME", "CONSILIUM_HOME", "CONSILIUM_SITE_HOME")  # inherited, also by orphans
_LOOKS = 8


def below(folder: Path) -> list[psutil.Process]:
    """Living processes of this user whose home or working folder is in ``folder``; never this process.

    A path among the arguments is no sign: somebody may be reading a log there.
    """
    inside = f"{folder}{os.sep}"
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                continue
            environment = process.environ()
            places = [process.cwd(), *(environment.get(name, "") for name in _HOMES)]
            if any(f"{place}{os.sep}".startswith(inside) for place in places):
                found.append(process)
    return found


def kill_all(find: Callable[[], list[psutil.Process]]) -> int:
    """SIGKILL what ``find`` names, again until it names nothing: a parent may just have started another."""
    killed: set[psutil.Process] = set()
    for _look in range(_LOOKS):
        victims = find()
        if not victims:
            break
        for process in sorted(victims, key=_age):  # parents first, so that nobody starts a new child
            with suppress(psutil.NoSuchProcess):
                process.kill()
                killed.add(process)
        psutil.wait_procs(victims, timeout=2)
    return len(killed)


def kill_once(victims: list[psutil.Process]) -> int:
    """SIGKILL these and nothing that is started in their place."""
    killed = 0
    for process in sorted(victims, key=_age):
        with suppress(psutil.NoSuchProcess):
            process.kill()
            killed += 1
    return killed


def _age(process: psutil.Process) -> float:
    try:
        return float(process.create_time())
    except psutil.Error:
        return 0.0


class Targets:
    """The NVFlare server and the sites of one platform."""

    def __init__(self, portal_home: Path, sites_home: Path) -> None:
        self._record, self._sites = portal_home / "processes.json", sites_home
        self._portal_home = portal_home

    def server_tree(self) -> list[psutil.Process]:
        """The server as the supervisor started it, with its job process."""
        row = json.loads(self._record.read_text(encoding="utf-8")).get("flare-server")
        try:
            parent = psutil.Process(row["pid"]) if row else None
            if parent is None or abs(parent.create_time() - row["created"]) > 1:
                return []
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def server_jobs(self) -> list[psutil.Process]:
        return _with_word(below(self._portal_home), JOB["server"])

    def client(self, site: str) -> list[psutil.Process]:
        """NVFlare's client alone, without agent and job."""
        return _with_word(below(self._sites / site), CLIENT)

    def site_jobs(self, site: str) -> list[psutil.Process]:
        return _with_word(below(self._sites / site), JOB["site"])

    def whole_site(self, site: str) -> list[psutil.Process]:
        return below(self._sites / site)

    def all_jobs(self) -> list[psutil.Process]:
        """Every job process, of the server and of all sites."""
        return self.server_jobs() + _with_word(below(self._sites), JOB["site"])


def _with_word(processes: list[psutil.Process], word: str) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if any(word in argument for argument in process.cmdline()):
                found.append(process)
    return found


class Registrations:
    """Which sites registered with the NVFlare server since a moment, as its own log says."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def now(self) -> int:
        """The place in the log to count from."""
        return self._log.stat().st_size if self._log.exists() else 0

    def since(self, place: int) -> set[str]:
        with suppress(FileNotFoundError), self._log.open("rb") as log:
            log.seek(place if place <= self.now() else 0)
            return {one or other for one, other in _BACK.findall(log.read().decode(errors="replace"))}
        return set()

    def wait(self, place: int, names: set[str], fewest: int, limit_s: float) -> float | None:
        """Seconds until ``fewest`` of ``names`` are back; None when that took longer than ``limit_s``."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < limit_s:
            if len(self.since(place) & names) >= fewest:
                return passed
            time.sleep(0.2)
        return None
