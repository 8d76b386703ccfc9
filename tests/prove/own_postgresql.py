"""A PostgreSQL instance of one's own: an unprivileged user's, on loopback, killed or frozen at will."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

BINARIES = Path("/usr/lib/postgresql/15/bin")
ROOMY = ("shared_buffers=64MB",)
SMALL = ("max_wal_size=8MB", "min_wal_size=2MB", "shared_buffers=16MB", "autovacuum=off")  # for a small disk


@dataclass
class Instance:
    """A server below ``folder``, which the caller made; others must be able to enter it."""

    folder: Path
    port: int
    settings: tuple[str, ...] = ROOMY
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def _user(self) -> dict[str, str]:
        return {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}

    def create(self, *options: str) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        command = [str(BINARIES / "initdb"), "--pgdata", str(self.folder / "data"), "--username", "postgres"]
        command += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C", *options]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._user())

    def start(self) -> None:
        command = [str(BINARIES / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self.folder)]
        command += [word for setting in self.settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self._user())

    def wait(self, seconds: float = 60) -> float:
        """Seconds until it answers again."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            try:
                with psycopg.connect(self.url, connect_timeout=2):
                    return time.monotonic() - began
            except psycopg.OperationalError:
                time.sleep(0.05)
                if self.process and self.process.poll() is not None:
                    self.start()  # the killed one's memory was still attached
        raise TimeoutError("PostgreSQL does not come back")

    def pids(self) -> list[int]:
        """Of every process of it, the first one first."""
        if self.process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [self.process.pid, *(child.pid for child in children)]
        return [self.process.pid]

    def stop(self) -> None:
        """At once, without a checkpoint: the next start recovers."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)

    def kill(self) -> None:
        if self.process is None:
            return
        pids = self.pids()
        self.process.kill()
        for pid in pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def instance() -> Iterator[Instance]:
    """One with room, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="consilium-pg-"))
    folder.chmod(0o755)
    try:
        with running_in(folder, ROOMY) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_in(folder: Path, settings: tuple[str, ...], *options: str) -> Iterator[Instance]:
    """One below ``folder``, on a disk of the caller's; ``options`` are initdb's."""
    server = Instance(folder, _free_port(), settings)
    try:
        server.create(*options)
        server.start()
        server.wait()
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
