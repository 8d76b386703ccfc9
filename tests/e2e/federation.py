"""A real NVFlare federation on loopback, provisioned as the product does, without portal and agent.

Every process it started is ended by :meth:`Federation.close`.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives.serialization import Encoding

from fl_jobs.approval.egress import read_lines
from fl_jobs.packaging.job import write_job
from fl_jobs.packaging.spec import RunSpec
from site_kits.agent.fencing import Fence
from site_kits.provisioning import ca, flare_kit
from site_kits.site_home import SiteHome
from tests.approvals import STANDING, approve, write_policy
from tests.e2e.allowed import Allowed, make_request

REGISTERED = "Successfully registered client:"
SERVER_UP = "Server started"


class FederationError(RuntimeError):
    """A process did not come up; the message ends with its log."""


@dataclass
class Participant:
    """A server or site process. ``folder`` is its NVFlare workspace."""

    name: str
    folder: Path
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def tree(self) -> list[psutil.Process]:
        """This process and its job processes, found by the workspace folder in their command lines."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if str(self.folder) in (process.info["cmdline"] or []):
                found.append(process)
        return found

    def job_processes(self) -> list[psutil.Process]:
        """The job processes alone."""
        return [process for process in self.tree() if self.process and process.pid != self.process.pid]

    def rss_mb(self) -> dict[str, float]:
        """Resident memory in MB of the parent and, summed, of its job processes."""
        jobs = {process.pid for process in self.job_processes()}
        sizes = {"parent": 0.0, "jobs": 0.0}
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes["jobs" if process.pid in jobs else "parent"] += process.memory_info().rss / 2**20
        return sizes


class Federation:
    """One federation below ``root``. Use as a context manager."""

    def __init__(self, root: Path, *, port: int | None = None) -> None:
        self.root, self.port = root, port or free_port()
        self.facts = flare_kit.FederationFacts("testfed", "server", "localhost", self.port)
        self.ca_key, self.ca_cert = ca.create_ca("Test federation")
        self.root_pem = self.ca_cert.public_bytes(Encoding.PEM)
        self.server = self._participant("server", root / "server", {})
        self.sites: dict[str, Participant] = {}
        self.allowed = Allowed(self.server.folder)
        key, certificate = ca.issue_server_certificate(
            self.ca_key, self.ca_cert, "server", ["localhost", "127.0.0.1"]
        )
        flare_kit.write_server_kit(self.server.folder, self.facts, key, certificate, self.root_pem)
        for name, role in (("ops", "project_admin"), ("runs", "lead")):
            key, certificate = ca.issue_service_identity(
                self.ca_key, self.ca_cert, name, role, "consilium", 30
            )
            flare_kit.write_admin_kit(
                self.admin_folder(name), self.facts, name, key, certificate, self.root_pem
            )
            self.allowed.add(name, certificate)

    def __enter__(self) -> "Federation":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def admin_folder(self, name: str) -> Path:
        return self.root / "admin" / name

    def site_home(self, name: str) -> Path:
        return self.root / "sites" / name

    def add_site(self, name: str, *, share_site_metrics: bool = True) -> Participant:
        """Make a site's folder as kit and enrolment would; the key is made in it."""
        home = self.site_home(name)
        flare = home / "flare"
        flare_kit.write_site_kit_files(flare, self.facts, name, "test", self.root_pem)
        (home / "site.json").write_text(json.dumps({"version": 1, "site": name}))
        write_policy(home, f"{STANDING}[output]\nshare_site_metrics = {str(share_site_metrics).lower()}\n")
        Fence(SiteHome(home)).renew()
        key_pem, csr_pem = make_request(name)
        certificate = ca.sign_site_csr(self.ca_key, self.ca_cert, csr_pem, site=name, organisation="test")
        key_file = flare / "startup" / "client.key"
        key_file.touch(mode=0o600)
        key_file.write_bytes(key_pem)
        (flare / "startup" / "client.crt").write_bytes(certificate)
        self.allowed.add(name, certificate)
        site = self._participant(name, flare, {"CONSILIUM_SITE_HOME": str(home)})
        self.sites[name] = site
        return site

    def start_server(self, timeout_s: float = 40) -> None:
        """Start the NVFlare server and wait until it answers."""
        self._start(self.server)
        wait_for_text(self.server, SERVER_UP, timeout_s)

    def start_sites(self, names: Sequence[str] | None = None, timeout_s: float = 60) -> None:
        """Start sites side by side and wait until each is registered."""
        chosen = [self.sites[name] for name in names or self.sites]
        for site in chosen:
            self._start(site)
        for site in chosen:
            wait_for_text(site, REGISTERED, timeout_s)

    def wait_until_online(self, session: Any, names: Sequence[str], timeout_s: float = 60) -> None:
        """Wait until the server lists ``names``; after its restart sites come back within ~15 s."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if set(names) <= {client.name for client in session.get_system_info().client_info}:
                return
            time.sleep(0.5)
        raise FederationError(f"not all of {names} came online in {timeout_s} s")

    def kill(self, participant: Participant, *, only_jobs: bool = False) -> None:
        """SIGKILL a participant and its job processes (or these alone), as a power cut would."""
        victims = participant.job_processes() if only_jobs else participant.tree()
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(victims, timeout=5)
        if participant.process and not only_jobs:
            participant.process.wait(timeout=10)

    def close(self) -> None:
        """End every process: SIGTERM to the parents, SIGKILL to whatever is left after 5 s."""
        everyone = [*self.sites.values(), self.server]
        for participant in everyone:
            if participant.process and participant.process.poll() is None:
                participant.process.terminate()
        deadline = time.monotonic() + 5
        while any(participant.tree() for participant in everyone) and time.monotonic() < deadline:
            time.sleep(0.1)
        for participant in everyone:
            self.kill(participant)

    def leftover(self) -> list[psutil.Process]:
        return [process for each in (self.server, *self.sites.values()) for process in each.tree()]

    def _participant(self, name: str, folder: Path, extra: dict[str, str]) -> Participant:
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "OMP_NUM_THREADS": "1",
            "LC_ALL": "C.UTF-8",
            **extra,
        }
        return Participant(name, folder, self.root / f"{name}.log", environment)

    def _start(self, participant: Participant) -> None:
        with participant.log.open("wb") as log:
            participant.process = subprocess.Popen(
                ["bash", str(participant.folder / "startup" / "sub_start.sh"), "--once"],
                cwd=participant.folder,
                env=participant.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_text(participant: Participant, text: str, timeout_s: float) -> None:
    """Wait until a participant's log contains ``text``. Raises FederationError with the log's end."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        log = participant.log.read_text(errors="replace") if participant.log.exists() else ""
        if text in log:
            return
        if participant.process is None or participant.process.poll() is not None:
            break
        time.sleep(0.1)
    raise FederationError(f"{participant.name} did not say {text!r}:\n{participant.log.read_text()[-3000:]}")


@contextlib.contextmanager
def admin_session(federation: Federation, name: str) -> Iterator[Any]:
    """An NVFlare session of one of the two service identities."""
    from nvflare.fuel.flare_api.flare_api import new_secure_session

    session = new_secure_session(username=name, startup_kit_location=str(federation.admin_folder(name)))
    try:
        yield session
    finally:
        session.close()


class Run:
    """One submitted job: what its journal says, as the portal would follow it."""

    def __init__(self, federation: Federation, session: Any, run_id: str, job_id: str) -> None:
        self.federation, self.session, self.run_id, self.job_id = federation, session, run_id, job_id
        self.lines: list[dict[str, Any]] = []

    @property
    def folder(self) -> Path:
        """Where the server keeps the run's aggregates and journal."""
        return self.federation.server.folder / "rounds" / self.run_id

    def poll(self) -> list[dict[str, Any]]:
        """Ask for new journal lines once; an unavailable answer is no news."""
        from nvflare.fuel.flare_api.api_spec import InternalError, JobNotRunning, NoReply

        try:
            answer = self.session.do_app_command(self.job_id, "consilium.journal", {"since": len(self.lines)})
        except (NoReply, JobNotRunning, InternalError):
            return []
        self.lines += answer["lines"]
        return list(answer["lines"])

    def left_the_site(self, name: str, number: int) -> set[str]:
        """SHA-256 of what the site's own meter says left it for training in a round."""
        lines = read_lines(self.federation.site_home(name), self.run_id)
        return {line.sha256 for line in lines if (line.task, line.round) == ("train", number)}

    def wait_for(self, kind: str, number: int | None = None, timeout_s: float = 150) -> dict[str, Any]:
        """Wait for a journal line; fails early when the run failed."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in self.lines:
                if line["kind"] == kind and (number is None or line.get("round") == number):
                    return line
                if line["kind"] == "failed" and kind != "failed":
                    raise FederationError(line["error"])
            self.poll()
            time.sleep(0.2)
        raise FederationError(f"no {kind} line after {timeout_s} s; the last lines are {self.lines[-2:]}")

    def wait_for_end(self, timeout_s: float = 60) -> str:
        """Wait for NVFlare's final status."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status = str(self.session.get_job_status(self.job_id))
            if status.startswith("FINISHED"):
                return status
            time.sleep(0.3)
        raise FederationError(f"the job did not finish in {timeout_s} s")


def submit(
    federation: Federation,
    session: Any,
    spec: RunSpec,
    sites: Sequence[str],
    *,
    run_id: str = "",
    epoch: int = 1,
    start_round: int = 1,
    asked: bool = True,
) -> Run:
    """Submit the job of a run with the identity of ``session``; its sites are ``asked`` before, by policy."""
    run_id = run_id or str(uuid.uuid4())
    for site in sites if asked else ():
        approve(federation.site_home(site), spec, run_id)
    folder = federation.root / "jobs" / f"{run_id}-{epoch}"
    write_job(folder, spec, run_id=run_id, epoch=epoch, start_round=start_round, sites=sites, asked_by="test")
    return Run(federation, session, run_id, session.submit_job(str(folder), submit_token=f"{run_id}-{epoch}"))
