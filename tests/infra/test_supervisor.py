import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from infra.supervision.supervisor import Program, Supervisor, end_orphans

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
WITH_CHILD = [
    sys.executable,
    "-c",
    # the child leads a session of its own, as NVFlare's job processes do
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
    " start_new_session=True); time.sleep(60)",
]


class Supervised:
    """A supervisor in a thread, with one program."""

    def __init__(self, home: Path, command: list[str]) -> None:
        self._supervisor = Supervisor([Program("one", command, dict(os.environ), home)], home=home)
        self._thread = threading.Thread(target=self._supervisor.run)
        self._thread.start()
        self.pid = wait_for(lambda: pid_in(home))

    def stop(self) -> None:
        self._supervisor.stop()
        self._thread.join(30)


@pytest.fixture
def supervised(tmp_path):
    started = []

    def start(command):
        started.append(Supervised(tmp_path, command))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def pid_in(home: Path) -> int | None:
    try:
        return int(json.loads((home / "processes.json").read_text())["one"]["pid"])
    except (FileNotFoundError, KeyError):
        return None


def wait_for(question, limit_s=15.0):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def test_a_killed_process_is_started_again(tmp_path, supervised):
    first = supervised(SLEEPER).pid
    os.kill(first, signal.SIGKILL)
    second = wait_for(lambda: (pid := pid_in(tmp_path)) and pid != first and pid)
    assert psutil.pid_exists(second)


def test_the_end_reaches_children_in_sessions_of_their_own(tmp_path, supervised):
    running = supervised(WITH_CHILD)
    child = wait_for(psutil.Process(running.pid).children)[0]
    running.stop()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert not (tmp_path / "processes.json").exists()


def test_orphans_of_a_killed_supervisor_are_ended_and_strangers_are_not(tmp_path):
    orphan, stranger = (psutil.Popen(SLEEPER, start_new_session=True) for _ in range(2))
    record = tmp_path / "processes.json"
    rows = {
        "orphan": {"pid": orphan.pid, "created": orphan.create_time()},
        "stranger": {"pid": stranger.pid, "created": stranger.create_time() - 100},  # its pid was reused
    }
    record.write_text(json.dumps(rows))
    end_orphans(record)
    assert orphan.wait(10) == -signal.SIGKILL
    assert stranger.is_running()
    stranger.kill()
    stranger.wait(10)


def test_a_record_that_cannot_be_read_names_no_orphan(tmp_path):
    (tmp_path / "processes.json").write_text("{")
    end_orphans(tmp_path / "processes.json")
