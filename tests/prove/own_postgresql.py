"""A PostgreSQL instance of one's own: as an unprivileged user, on loopback, killed at will."""

import os
import shutil
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


@dataclass
class Instance:
    """A PostgreSQL instance of the campaign's own, as an unprivileged user, on loopback."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def _user(self) -> dict[str, str]:
        return {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}

    def create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        command = [str(BINARIES / "initdb"), "--pgdata", str(self.folder / "data"), "--username", "postgres"]
        command += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._user())

    def start(self) -> None:
        command = [str(BINARIES / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self.folder), "-c", "shared_buffers=64MB"]
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

    def kill(self) -> None:
        if self.process is None:
            return
        try:
            every = [*psutil.Process(self.process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            every = []
        self.process.kill()
        for child in every:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.wait()


@contextmanager
def instance() -> Iterator[Instance]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="consilium-pg-"))
    folder.chmod(0o755)
    server = Instance(folder, port)
    try:
        server.create()
        server.start()
        server.wait()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
