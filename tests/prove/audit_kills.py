"""``python -m tests.prove.audit_kills [--full]``: kill -9 under the audit log loses nothing.

SQLite: a writer is killed in the middle of its transactions while the sequencer and the signer work; now and
then these are killed, too. PostgreSQL: an instance of the campaign's own, all its processes killed at once.
Writers use the portal's service, a transaction an entry, and note an id only after the commit.
"""

import argparse
import base64
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from tests.prove.own_postgresql import BINARIES, Instance, instance
from tests.prove.proof import Proof
from tests.prove.running import FOLDER

REPOSITORY = Path(__file__).resolve().parents[2]
SQLITE_KILLS, SQLITE_FULL = 20, 1000
POSTGRESQL_KILLS, POSTGRESQL_FULL = 5, 200
WRITERS = 4
EARLY_S = 0.1
LOG = "consilium/audit"
NEWEST_HEAD = "SELECT note FROM audit_head ORDER BY shard DESC, size DESC LIMIT 1"


@dataclass
class Portal:
    """A folder, a database, and the processes of the audit log over it."""

    home: Path
    database: str = ""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "DJANGO_SETTINGS_MODULE": "infra.settings.dev",
            "CONSILIUM_HOME": str(self.home),
            "CONSILIUM_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "DATABASE_URL": self.database,
            "OMP_NUM_THREADS": "1",
        }
        self.journal = self.home / "acknowledged"
        self.commands = {
            "sequencer": ("manage.py", "audit_sequencer"),
            "signer": ("-m", "compliance.signer", "--folder", str(self.home / "signer")),
        } | {
            f"writer-{n}": ("-m", "tests.prove.audit_process", "write", str(self.journal))
            for n in range(WRITERS)
        }

    def set_up(self) -> None:
        self.finished("manage.py", "migrate", "--verbosity", "0")
        self.finished(*self.commands["signer"], "--init", LOG)
        self.journal.touch()
        Path(f"{self.journal}.heads").touch()

    def finished(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=REPOSITORY, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return done.stdout

    def start(self, name: str) -> None:
        log = (self.home / f"{name}.log").open("ab")
        command = [sys.executable, *self.commands[name]]
        self.running[name] = subprocess.Popen(
            command, cwd=REPOSITORY, env=self.environment, stdout=log, stderr=log
        )
        log.close()

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running.pop(name).wait()

    def end(self) -> None:
        for name in list(self.running):
            self.kill(name)

    def see(self, note: str | None) -> None:
        """A head that an outsider read now must be a beginning of the tree for ever."""
        if note:
            with Path(f"{self.journal}.heads").open("a") as file:
                file.write(json.dumps(note) + "\n")

    def checked(self) -> dict[str, Any]:
        """Wait for the sequencer to catch up, then count."""
        for _ in range(60):
            time.sleep(2)
            figures = json.loads(self.finished("-m", "tests.prove.audit_process", "check", str(self.journal)))
            if not figures["unplaced"]:
                break
        return dict(figures)


def sqlite_kills(proof: Proof, count: int) -> None:
    pauses = np.random.default_rng(11).uniform(0.0, EARLY_S / 0.75, count)
    with tempfile.TemporaryDirectory(prefix="consilium-audit-") as folder, ExitStack() as stack:
        portal = Portal(Path(folder))
        stack.callback(portal.end)
        portal.set_up()
        portal.start("signer")
        portal.start("sequencer")
        command = [sys.executable, "-m", "tests.prove.audit_process", "forks", str(portal.journal)]
        nursery = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=portal.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(nursery.kill)
        kill_a_fork(nursery, portal.journal, 0.05)
        wait_for(lambda: _head_in_sqlite(portal.home / "db.sqlite3"))
        began = time.monotonic()
        for number, pause in enumerate(pauses, start=1):
            kill_a_fork(nursery, portal.journal, float(pause))
            if number % 10 == 0:
                portal.see(_head_in_sqlite(portal.home / "db.sqlite3"))
            if number % 50 == 0 or number == count // 2:
                for name in ("sequencer", "signer"):
                    portal.kill(name)
                    portal.start(name)
        seconds = time.monotonic() - began
        report(proof, "3a", f"{count} kill -9 of a writer on SQLite", portal.checked(), seconds)


def kill_a_fork(nursery: subprocess.Popen[str], journal: Path, pause: float) -> None:
    """Kill it ``pause`` after its first entry, wherever it is then; one in four before that."""
    assert nursery.stdin
    assert nursery.stdout
    before = journal.stat().st_size
    nursery.stdin.write("\n")
    nursery.stdin.flush()
    pid = int(nursery.stdout.readline())
    while pause < EARLY_S and journal.stat().st_size == before:
        time.sleep(0.002)
    time.sleep(pause)
    os.kill(pid, signal.SIGKILL)
    assert nursery.stdout.readline() == "ended\n"


def wait_for(something: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not something():
        if time.monotonic() > end:
            raise TimeoutError("the sequencer or the signer does not begin; see their logs")
        time.sleep(0.2)


def _head_in_sqlite(path: Path) -> str | None:
    with closing(sqlite3.connect(path, timeout=20)) as link:
        row = link.execute(NEWEST_HEAD).fetchone()
    return row[0] if row else None


def _head_in_postgresql(server: Instance) -> str | None:
    with psycopg.connect(server.url) as link:
        row = link.execute(NEWEST_HEAD).fetchone()
    return row[0] if row else None


def postgresql_kills(proof: Proof, count: int, *, full: bool) -> None:
    if not (BINARIES / "initdb").exists():
        if full:
            proof.check("3b", "kill -9 of PostgreSQL", f"none in {BINARIES}", f"{count} kills", passed=False)
        else:
            proof.note("3b", f"not measured: no PostgreSQL in {BINARIES}")
        return
    pauses, back = np.random.default_rng(12).uniform(0.5, 2.5, count), []
    with tempfile.TemporaryDirectory(prefix="consilium-audit-") as folder, ExitStack() as stack:
        server = stack.enter_context(instance())
        portal = Portal(Path(folder), server.url)
        stack.callback(portal.end)
        portal.set_up()
        names = ["signer", "sequencer", *(f"writer-{n}" for n in range(WRITERS))]
        for name in names:
            portal.start(name)
        wait_for(lambda: _head_in_postgresql(server))  # each of them has to load
        began = time.monotonic()
        for pause in pauses:
            time.sleep(float(pause))
            portal.see(_head_in_postgresql(server))
            server.kill()
            server.start()
            back.append(server.wait())
        for name in names[2:]:
            time.sleep(0.2)
            portal.kill(name)
        figures = portal.checked()
        report(proof, "3b", f"{count} kill -9 of PostgreSQL", figures, time.monotonic() - began)
        times = f"p50 {np.median(back):.1f} s, longest {max(back):.1f} s"
        proof.note("3b", f"the instance answers again after {times}")


def report(proof: Proof, item: str, title: str, figures: dict[str, Any], seconds: float) -> None:
    told = f"{figures['acknowledged']:,} acknowledged, {figures['lost']} lost"
    proof.check(item, f"{title}: entries", told, "0 lost", figures["acknowledged"] > 0 == figures["lost"])
    broken = {name: figures[name] for name in ("unplaced", "twice", "gaps")}
    told = f"{figures['places']:,} places, {broken}"
    proof.check(item, f"{title}: places contiguous", told, "no gap, none twice", not any(broken.values()))
    told = f"{figures['heads']:,} heads, {figures['heads_bad']} that do not fit"
    passed = figures["heads"] > 0 == figures["heads_bad"]
    proof.check(item, f"{title}: heads consistent", told, "all fit one tree", passed)
    durable = figures["durable"]
    passed = bool(durable) and all(value in ("on", "full", "extra") for value in durable.values())
    proof.check(item, f"{title}: a commit waits for the disk", durable, "on, full", passed)
    proof.note(item, f"{seconds:.0f} s in all; {figures['alarms']} alarms in the log itself")


def kills(proof: Proof, *, full: bool) -> None:
    """Show 3."""
    sqlite_kills(proof, SQLITE_FULL if full else SQLITE_KILLS)
    postgresql_kills(proof, POSTGRESQL_FULL if full else POSTGRESQL_KILLS, full=full)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="1,000 and 200 kills")
    options = parser.parse_args()
    proof = Proof("audit-kills")
    proof.section("3", lambda: kills(proof, full=options.full))
    return proof.close(FOLDER)


if __name__ == "__main__":
    sys.exit(main())
