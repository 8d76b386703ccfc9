"""Runs named processes, respawns what dies with a growing pause, and ends all of them on SIGTERM.

Each child leads its own process group, so that what it started (Celery's pool) ends with it; NVFlare's job
processes lead sessions of their own and are looked for by descent. ``processes.json`` names every child; a
supervisor that was killed leaves orphans, and the next one ends exactly those: pid and start time must both
agree, because pids are reused.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
HEALTHY_AFTER_S = 30.0
STOP_GRACE_S = 12.0


@dataclass(frozen=True)
class Program:
    """What to run. ``environment`` is the whole environment of the child."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    restarts: int = 0
    due: float = field(default_factory=time.monotonic)


class Supervisor:
    """Keeps ``programs`` running until :meth:`stop` is called."""

    def __init__(self, programs: Sequence[Program], *, home: Path) -> None:
        self._children = [_Child(program) for program in programs]
        self._record = home / "processes.json"
        self._logs = home / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._stopping = False

    def run(self) -> None:
        """Supervise until asked to stop, then end every child."""
        end_orphans(self._record)
        try:
            while not self._stopping:
                for child in self._children:
                    self._tend(child)
                time.sleep(0.2)
        finally:
            self._end_all()

    def stop(self, *_signal: object) -> None:
        """Ask :meth:`run` to end; safe to call from a signal handler."""
        self._stopping = True

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.due:
                self._start(child)
        elif child.process.poll() is not None:
            if now - child.started > HEALTHY_AFTER_S:
                child.pause_s = FIRST_PAUSE_S
            _end_group(child.process.pid)  # a killed parent must not leave its children behind
            child.process, child.due = None, now + child.pause_s
            child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)
            child.restarts += 1
            self._write_record()

    def _start(self, child: _Child) -> None:
        with (self._logs / f"{child.program.name}.log").open("ab") as log:
            child.process = subprocess.Popen(
                child.program.command,
                cwd=child.program.folder,
                env=dict(child.program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child.started = time.monotonic()
        self._write_record()

    def _write_record(self) -> None:
        rows = {
            child.program.name: {
                "pid": child.process.pid,
                "created": _created(child.process.pid),
                "restarts": child.restarts,
            }
            for child in self._children
            if child.process is not None
        }
        temporary = self._record.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        temporary.replace(self._record)

    def _end_all(self) -> None:
        running = [child.process for child in reversed(self._children) if child.process is not None]
        # NVFlare's job processes lead sessions of their own, so a signal to the group does not reach them
        descendants = [each for process in running for each in _descendants(process.pid)]
        for process in running:
            _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
        for process in running:
            _end_group(process.pid)
        for each in descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self._record.unlink(missing_ok=True)


def end_orphans(record: Path) -> None:
    """End the children a killed supervisor left behind. A record that cannot be read names none."""
    try:
        rows = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return
    for row in rows.values():
        if row["created"] is not None and _created(row["pid"]) == row["created"]:
            _end_group(row["pid"])


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _created(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _signal_group(leader: int, number: signal.Signals) -> bool:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True


def _end_group(leader: int) -> None:
    """SIGKILL what is left of a process group, whether or not its leader still lives."""
    _signal_group(leader, signal.SIGKILL)
