"""What the demo needs of this machine: ports, secrets, logins, the processes, and their end."""

import base64
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from infra.supervision.supervisor import end_orphans

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("platform_web", "site_kits", "fl_jobs", "secure_agg", "compliance")
ROLES = ("administrator", "site_operator", "data_scientist", "clinician", "auditor")


class MachineError(Exception):
    """The demo cannot go on; the sentence says what to do."""


class Machine:
    """One demo in its own folder: portal, sites, and every process that belongs to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.portal_home = folder / "portal"
        self.sites_home = folder / "sites"
        for each in (self.portal_home, self.sites_home):
            each.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MachineError(
                "This demo already runs in another terminal. Stop it there with Ctrl-C first."
            ) from None
        self.facts = self._load_facts()
        self._own: dict[str, subprocess.Popen[bytes]] = {}
        self._seen: dict[int, float] = {}
        self.peak_rss_mb = 0.0
        self._watching = True
        threading.Thread(target=self._watch_memory, daemon=True).start()

    @property
    def origin(self) -> str:
        """Where people open the portal."""
        return f"http://127.0.0.1:{self.facts['web_port']}"

    def portal_environment(self) -> dict[str, str]:
        """The portal's settings; a site never gets these."""
        facts = self.facts
        return {
            **_clean_environment(),
            "DJANGO_SETTINGS_MODULE": "infra.settings.dev",
            "CONSILIUM_HOME": str(self.portal_home),
            "CONSILIUM_MASTER_KEY": facts["master_key"],
            "CONSILIUM_WEB_ORIGIN": self.origin,
            "CONSILIUM_AGENTS_URL": f"https://localhost:{facts['agents_port']}",
            "CONSILIUM_FLARE_HOST": "localhost",
            "CONSILIUM_FLARE_PORT": str(facts["flare_port"]),
            "CONSILIUM_WHEEL": str(self._wheel),
            "CONSILIUM_CONSTRAINTS": str(REPOSITORY / "constraints.txt"),
            "CONSILIUM_PYTHON": sys.executable,
            "CONSILIUM_ADMIN_PASSWORD": facts["passwords"]["administrator"],
            **{
                name: os.environ[name] for name in ("DATABASE_URL", "CELERY_BROKER_URL") if name in os.environ
            },
        }

    def set_up(self) -> None:
        """Make keys, tables and the first administrator; done again it changes nothing."""
        self._run([sys.executable, "manage.py", "setup_platform", "--admin", "ann"])
        self._run([sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity", "0"])

    def start_platform(self) -> None:
        """Start portal, doors, workers, beat and NVFlare server under one supervisor."""
        ports = [f"--{name}-port={self.facts[f'{name}_port']}" for name in ("web", "agents", "flare")]
        command = [sys.executable, "-m", "infra.supervision", "--home", str(self.portal_home), *ports]
        self._start("platform", command, REPOSITORY, self.portal_environment())

    def start_site(self, home: Path, *, link: str = "", pin: str = "") -> None:
        """Run the kit's one command, in the site's own folder and with nothing of the portal's settings.

        Before the first start its data are shared, as an operator does who has looked at them. A site that is
        not enrolled yet needs the link and the PIN of its invitation.
        """
        environment = _site_environment(home)
        if not any(home.glob("registered/*.json")):
            self._at_site(home, "register")
        if link:
            environment["CONSILIUM_PIN"] = pin
        self._start(f"site {home.name}", ["./start.sh", *filter(None, [link])], home, environment)

    def console(self, home: Path) -> tuple[str, str]:
        """Address of the console of a site that was started, and a new passphrase for it."""
        deadline = time.monotonic() + 60
        address = ""
        while not address and time.monotonic() < deadline:
            self.check_alive()
            with suppress(OSError, ValueError):  # the agent has not written it yet
                status = json.loads((home / "state" / "status.json").read_text(encoding="utf-8"))
                address = str(status.get("console_url") or "")
            time.sleep(0.2)
        if not address:
            raise MachineError(f"{home.name} does not say where its console is; see {home / 'logs'}.")
        return address, self._at_site(home, "console-password").split()[-1]

    def _at_site(self, home: Path, command: str) -> str:
        """What ``./start.sh COMMAND`` prints. Raises MachineError when it does not end well."""
        done = subprocess.run(
            ["./start.sh", command], cwd=home, env=_site_environment(home), capture_output=True, text=True
        )
        if done.returncode:
            raise MachineError(
                f"{home.name}: start.sh {command} did not end well: {done.stderr or done.stdout}"
            )
        return done.stdout

    def check_alive(self) -> None:
        """Raise MachineError with the last lines of the log when a process of ours has ended."""
        for name, process in self._own.items():
            if process.poll() is not None:
                raise MachineError(f"{name} ended with code {process.returncode}: {self.log_tail(name)}")

    def forget(self, name: str) -> None:
        """Expect ``name`` to be gone: it was stopped on purpose and may be started again."""
        process = self._own.pop(name, None)
        if process is not None:
            process.wait(30)

    def log_tail(self, name: str) -> str:
        """The last lines of what a process printed."""
        log = self.folder / "logs" / f"{name.replace(' ', '-')}.log"
        return " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-6:])

    def stop(self) -> int:
        """End everything this demo started; return how many processes had to be killed or still live."""
        self._remember()
        self._watching = False
        for process in reversed(list(self._own.values())):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._own.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
        deadline = time.monotonic() + 20
        while (left := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.3)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                sys.stderr.write(f"still running after the stop, killed: {each.pid} {each.cmdline()[:6]}\n")
                each.kill()
        return len(left)

    def _alive(self) -> list[psutil.Process]:
        found = []
        for pid, created in self._seen.items():
            with suppress(psutil.NoSuchProcess):
                each = psutil.Process(pid)
                if each.create_time() == created and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
        return found

    def _start(self, name: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{name.replace(' ', '-')}.log").open("ab") as log:
            self._own[name] = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.portal_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise MachineError((done.stderr or done.stdout).strip().splitlines()[-1])

    @cached_property
    def _wheel(self) -> Path:
        """Our own wheel for the kits, built anew when a source file is younger."""
        folder = self.folder.parent / "wheel"
        wheels = sorted(folder.glob("consilium-*.whl"))
        newest = max(path.stat().st_mtime for name in PACKAGES for path in (REPOSITORY / name).rglob("*"))
        if not wheels or wheels[-1].stat().st_mtime < newest:
            shutil.rmtree(REPOSITORY / "build", ignore_errors=True)  # setuptools keeps deleted modules there
            command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
            subprocess.run(
                [*command, "--wheel-dir", str(folder), "."], cwd=REPOSITORY, check=True, capture_output=True
            )
            wheels = sorted(folder.glob("consilium-*.whl"))
        return wheels[-1]

    def _load_facts(self) -> dict[str, Any]:
        path = self.folder / "facts.json"  # 0600: it holds the master key and the demo's passwords
        if path.exists():
            end_orphans(self.portal_home / "processes.json")
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        else:
            ports = _free_ports(3)
            facts = {
                "master_key": base64.b64encode(secrets.token_bytes(32)).decode(),
                "web_port": ports[0], "agents_port": ports[1], "flare_port": ports[2],
                "passwords": {role: secrets.token_urlsafe(9) for role in ROLES},
            }  # fmt: skip
            path.touch(mode=0o600)
            path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        return facts

    def _watch_memory(self) -> None:
        while self._watching:
            self._remember()
            time.sleep(2)

    def processes(self) -> list[psutil.Process]:
        """Everything this demo started that still runs."""
        children: dict[int, list[psutil.Process]] = {}
        for each in psutil.process_iter(["ppid"]):  # one pass over the machine: 20 times cheaper than a walk
            children.setdefault(each.info["ppid"], []).append(each)
        waiting = [process.pid for process in list(self._own.values())]
        found = [each for each in children.get(os.getpid(), []) if each.pid in waiting]
        for each in found:
            found += children.get(each.pid, [])
        return found

    def _remember(self) -> None:
        total = 0
        for each in self.processes():
            with suppress(psutil.NoSuchProcess):
                self._seen[each.pid] = each.create_time()
                total += each.memory_info().rss
        self.peak_rss_mb = max(self.peak_rss_mb, total / 2**20)


def _clean_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "HOME") if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _site_environment(home: Path) -> dict[str, str]:
    return {**_clean_environment(), "HOME": str(home), "CONSILIUM_PYTHON": sys.executable}


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
