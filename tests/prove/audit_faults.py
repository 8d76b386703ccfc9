"""What the fail-closed proof does to a database: a lock, a stopped process, a full disk, no server at all."""

import json
import os
import shutil
import signal
import socket
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


class OwnPostgres:
    """A server of the proof's own, as an unprivileged user, on a disk of fixed size if it may mount."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder / "pg", _free_port()
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder.mkdir()
        if self.user:
            shutil.chown(self.folder, self.user)
            for parent in (folder, *folder.parents):
                with suppress(PermissionError):
                    parent.chmod(parent.stat().st_mode | 0o055)
                if parent == Path(tempfile.gettempdir()):
                    break
        self._run(
            "initdb", "-D", str(self.folder), "-U", "postgres", "--auth=trust", "--no-sync", "--wal-segsize=1"
        )
        self.start()

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} "
            "-c max_wal_size=8MB -c min_wal_size=2MB -c shared_buffers=16MB -c autovacuum=off"
        )
        self._run(
            "pg_ctl", "-D", str(self.folder), "-w", "-o", options, "-l", str(self.folder / "log"), "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder), "-w", "-m", "immediate", "stop")

    def pids(self) -> list[int]:
        postmaster = int((self.folder / "postmaster.pid").read_text().split()[0])
        found = subprocess.run(
            ["pgrep", "-P", str(postmaster)], capture_output=True, text=True
        ).stdout.split()
        return [postmaster, *map(int, found)]

    def _run(self, *command: str) -> None:
        subprocess.run(
            command, user=self.user, cwd="/", check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def locked_table(server: OwnPostgres) -> Iterator[None]:
    """The sink hangs: another session holds the log's table."""
    with psycopg.connect(server.url) as other:
        other.execute("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


@contextmanager
def frozen(server: OwnPostgres) -> Iterator[None]:
    """The server hangs: every process of it is stopped, connections are still taken by the kernel."""
    pids = server.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        time.sleep(2)  # what the portal gave up on comes to its end


@contextmanager
def stopped(server: OwnPostgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


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
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0755", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
