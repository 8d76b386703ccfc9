"""What the fail-closed proof does to a database: a lock, a stopped process, a full disk, no server at all."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.prove.own_postgresql import Instance


class Portal:
    """The worker process."""

    def __init__(self, home: Path, database_url: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "CONSILIUM_HOME": str(home),
            "DATABASE_URL": database_url,
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "tests.prove.fail_closed_worker"]
        self.log = (home.parent / "portal.log").open("w")
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.acts = int(self._answer()["acts"])

    def ask(self, word: str) -> Any:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            last = Path(self.log.name).read_text().strip().splitlines()[-30:]
            raise RuntimeError(f"the portal ended: {chr(10).join(last)}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)
        self.log.close()


@contextmanager
def locked_table(server: Instance) -> Iterator[None]:
    """The sink hangs: another session holds the log's table."""
    with psycopg.connect(server.url) as other:
        other.execute("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


@contextmanager
def frozen(server: Instance) -> Iterator[None]:
    """The server hangs: every process of it is stopped, connections are still taken by the kernel."""
    pids = server.pids()
    _signal_all(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal_all(pids, signal.SIGCONT)
        time.sleep(2)  # what the portal gave up on comes to its end


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # one of autovacuum's ended, or one that was let go on
            os.kill(pid, number)


@contextmanager
def stopped(server: Instance) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()
        server.wait()


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A file takes what is left of a disk of fixed size. SQLite has no room then for a write-ahead log."""
    filler = folder / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), b"\0" * 4096)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def full_disk_and_pages(folder: Path, portal: Portal) -> Iterator[None]:
    """PostgreSQL still has room in its pages and its log: entries use that up first."""
    with full_disk(folder):
        portal.ask("fill")
        yield


@contextmanager
def locked_file(database: Path) -> Iterator[None]:
    """The sink hangs: another process writes and does not end."""
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def taken_away(database: Path) -> Iterator[None]:
    aside = database.with_name("aside")
    database.rename(aside)
    database.mkdir()  # otherwise SQLite makes a new one
    try:
        yield
    finally:
        database.rmdir()
        aside.rename(database)


@contextmanager
def small_disk(size_mb: int) -> Iterator[tuple[Path, bool]]:
    """A folder on a tmpfs of ``size_mb``; without the right to mount, an ordinary folder and False."""
    folder = Path(tempfile.mkdtemp(prefix="fail-closed-"))
    folder.chmod(0o755)  # the database is another user's
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0755", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
