"""Processes the agent starts: found again by a mark in their environment, and ended whole.

NVFlare puts every job process into a session of its own, so a process group does not reach it; a mark that
children inherit does, also after the agent that started them was killed.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.translation import _

MARK = "CONSILIUM_AGENT_CHILD"
CHILDREN = ("client", "inference", "console")
_CREATE_TIME_SLACK_S = 2.0  # psutil's create time has the resolution of the kernel's clock ticks


def mark_of(home: SiteHome, name: str) -> str:
    """The value of the mark that child ``name`` of this home and all its descendants carry."""
    return f"{name}:{home.root}"


def marked_processes(marks: Iterable[str]) -> list[psutil.Process]:
    """Living processes of this user that carry one of ``marks``; never this process itself."""
    wanted = set(marks)
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) in wanted and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_processes(processes: list[psutil.Process], *, grace_s: float) -> None:
    """Ask each to end (SIGTERM), wait ``grace_s`` in all, then kill what is left."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _gone, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=2)


def end_marked(home: SiteHome, names: Iterable[str], *, grace_s: float) -> int:
    """End everything that carries the mark of a child in ``names``; returns how many processes there were.

    Asked a second time because a process may have been starting another one while the first list was made.
    """
    marks = [mark_of(home, name) for name in names]
    first = marked_processes(marks)
    end_processes(first, grace_s=grace_s)
    late = marked_processes(marks)
    end_processes(late, grace_s=0.5)
    return len(first) + len(late)


def is_same_process(pid: int, created: float) -> bool:
    """Whether ``pid`` still is the process that was recorded; pids are used again, create times are not."""
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return bool(alive and abs(process.create_time() - created) < _CREATE_TIME_SLACK_S)
    except psutil.Error:
        return False


class ChildRecord:
    """``state/children.json``: the children's pids, so that the next agent can end what a killed one left."""

    def __init__(self, home: SiteHome) -> None:
        self._path = home.state / "children.json"
        self._children: dict[str, Any] = {}

    def remember(self, name: str, pid: int) -> None:
        """Write down a child that has just started."""
        with contextlib.suppress(psutil.Error):
            self._children[name] = {"pid": pid, "created": psutil.Process(pid).create_time()}
        with contextlib.suppress(OSError):  # a full disk; the mark finds the process as well
            write_state(self._path, self._children)

    def forget_all(self) -> None:
        """Nothing is running any more."""
        self._children = {}
        self._path.unlink(missing_ok=True)

    def end_orphans(self, home: SiteHome) -> int:
        """End what a former agent of this home left running; returns how many processes that were."""
        recorded = read_state(self._path)
        orphans: list[psutil.Process] = []
        for child in recorded.values():
            with contextlib.suppress(KeyError, TypeError, psutil.Error):
                if is_same_process(int(child["pid"]), float(child["created"])):
                    process = psutil.Process(int(child["pid"]))
                    orphans += [process, *process.children(recursive=True)]
        end_processes(orphans, grace_s=3)
        ended = len(orphans) + end_marked(home, CHILDREN, grace_s=3)
        self.forget_all()
        return ended


class HomeLock:
    """One agent per home.

    The kernel's file lock decides; the pid and create time in it are for the sentence and for file systems
    whose locks do not work.
    """

    def __init__(self, home: SiteHome) -> None:
        self._path: Path = home.state / "agent.lock"
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            self._refuse(self.holder(self._path), exc)
        holder = self.holder(self._path)
        if holder is not None and holder != os.getpid():
            self._refuse(holder, None)
        record = {"pid": os.getpid(), "created": psutil.Process().create_time(), "at": time.time()}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(record).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _refuse(self, holder: int | None, cause: Exception | None) -> None:
        os.close(self._descriptor)
        raise AgentError(
            _(
                "This site is already running here (process {pid}). Stop that one first with Ctrl-C in its "
                "window or `kill {pid}`; `consilium-site status` shows how it is doing."
            ).format(pid=holder if holder is not None else "?")
        ) from cause

    @staticmethod
    def holder(path: Path) -> int | None:
        """The pid of the agent that holds the lock; None when there is none or the lock is stale."""
        record = read_state(path)
        try:
            pid, created = int(record["pid"]), float(record["created"])
        except (KeyError, TypeError, ValueError):
            return None
        return pid if is_same_process(pid, created) else None
