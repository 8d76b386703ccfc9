"""The agent's children, NVFlare's client, inference and console: start, watch, respawn."""

import logging
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from site_kits.agent.processes import MARK, ChildRecord, end_marked, mark_of
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome
from site_kits.translation import _

log = logging.getLogger("consilium.site")

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0
_LOG_LIMIT_BYTES = 5 * 2**20
_PASSED_ON = (
    "LANG", "LC_ALL", "LC_MESSAGES", "TZ", "TMPDIR", "SSL_CERT_FILE", "GRPC_DNS_RESOLVER",
    "CONSILIUM_DEVICE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
_LOOPBACK = "localhost,127.0.0.1,::1"


def child_environment(home: SiteHome, name: str, python: Path) -> dict[str, str]:
    """What a child may know: of the operator's environment only language, time zone, proxies and GPUs."""
    bypass = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    no_proxy = ",".join(part for part in (bypass, _LOOPBACK) if part)
    environment = {
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home.root),
        "CONSILIUM_SITE_HOME": str(home.root),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "1",
        "no_proxy": no_proxy,
        "NO_PROXY": no_proxy,
        MARK: mark_of(home, name),
    }
    proxies = [*_PROXIES, *(proxy.upper() for proxy in _PROXIES)]
    environment.update({key: os.environ[key] for key in (*_PASSED_ON, *proxies) if key in os.environ})
    return environment


@dataclass
class Child:
    """One supervised process. ``command`` is asked at every start; it may raise AgentError ("not now")."""

    home: SiteHome
    name: str
    command: Callable[[], list[str]]
    python: Path
    record: ChildRecord
    extra_environment: dict[str, str] = field(default_factory=dict)

    held: str = ""  # why the process must not run now; set by the heartbeat
    is_stale: bool = False  # it has to start anew, because what it read at its start has changed
    state: str = "starting"
    restarts: int = 0
    detail: str = ""
    _process: "subprocess.Popen[bytes] | None" = None
    _started: float = 0.0
    _not_before: float = 0.0
    _delay_s: float = FIRST_DELAY_S

    @property
    def pid(self) -> int | None:
        """The pid while the process lives."""
        return self._process.pid if self._process is not None and self.state == "running" else None

    @property
    def _log_path(self) -> Path:
        return self.home.logs / f"{self.name}.log"

    def tick(self) -> None:
        """Look at the process once: start it, leave it alone, or plan its next start."""
        now = time.monotonic()
        if self.held or self.is_stale:
            self._hold()
            self.is_stale = False
            return
        if self.state == "held":
            self.state, self.detail, self._not_before, self._delay_s = "starting", "", now, FIRST_DELAY_S
        if self._process is not None:
            code = self._process.poll()
            if code is not None:
                self._plan_restart(now, code)
            elif now - self._started > HEALTHY_AFTER_S:
                self._delay_s = FIRST_DELAY_S
        if self._process is None and now >= self._not_before:
            self._start(now)

    def cap_log(self) -> None:
        """Keep at most two files of 5 MiB. The child appends, so cutting the file to nothing is safe."""
        if self._log_path.exists() and self._log_path.stat().st_size > _LOG_LIMIT_BYTES:
            older = self._log_path.with_suffix(".log.1")
            older.write_bytes(self._log_path.read_bytes()[-_LOG_LIMIT_BYTES:])
            os.truncate(self._log_path, 0)

    def stopped(self) -> None:
        """Everything of this child has ended; collect its exit status."""
        if self._process is not None:
            self._process.wait(timeout=5)
        self._process, self.state = None, "stopped"

    def _hold(self) -> None:
        """End the process and its job processes; they start again with the first tick that is free."""
        if self._process is not None:
            end_marked(self.home, [self.name], grace_s=2)
            self._process.wait(timeout=5)
            self._process = None
        self.state, self.detail = "held", self.held

    def _start(self, now: float) -> None:
        try:
            self._process = self._spawn()
        except AgentError as exc:
            self._say(str(exc))
            self._back_off(now)
            return
        except OSError as exc:
            sentence = _("{name} cannot be started now ({reason}); the site tries again.")
            self._say(sentence.format(name=self.name, reason=exc.strerror))
            self._back_off(now)
            return
        self.record.remember(self.name, self._process.pid)
        self._started, self.state, self.detail = now, "running", ""

    def _spawn(self) -> "subprocess.Popen[bytes]":
        command = self.command()
        self.home.logs.mkdir(parents=True, exist_ok=True)
        environment = child_environment(self.home, self.name, self.python) | self.extra_environment
        with self._log_path.open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=self.home.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _plan_restart(self, now: float, code: int) -> None:
        self._process = None
        self.restarts += 1
        end_marked(self.home, [self.name], grace_s=2)  # job processes of a client that was killed
        self._back_off(now)
        self._say(
            _("{name} ended (code {code}); it starts again in {delay:.0f} s. Its log: {log}").format(
                name=self.name, code=code, delay=self._not_before - now, log=self._log_path
            )
        )

    def _back_off(self, now: float) -> None:
        self.state, self._not_before = "backing off", now + self._delay_s
        self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)

    def _say(self, sentence: str) -> None:
        if sentence != self.detail:
            log.warning(sentence)
        self.detail = sentence
