"""``consilium-site run``: check, enrol, then keep client, inference, console and heartbeat going."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from site_kits.agent import preflight, renewal
from site_kits.agent.children import Child
from site_kits.agent.datasets import look_at_folders
from site_kits.agent.doctor import Outcome, Patient, examine
from site_kits.agent.doctor.checks import BEFORE_START
from site_kits.agent.enrolment import Identity, enrol, identity_here
from site_kits.agent.fencing import Fence
from site_kits.agent.heartbeat import Heartbeat, Puller
from site_kits.agent.invitation import read_invitation
from site_kits.agent.passphrase import has_passphrase, new_passphrase
from site_kits.agent.places import console_port, inference_place
from site_kits.agent.policy_file import write_missing_policy
from site_kits.agent.portal import PortalDoor, PortalUnreachableError
from site_kits.agent.processes import CHILDREN, ChildRecord, HomeLock, end_marked
from site_kits.agent.pruning import prune_job_folders, put_old_requests_aside, rotate_audit
from site_kits.agent.renewal import Credentials, Renewer
from site_kits.agent.status import StatusBoard
from site_kits.agent.witnessing import Witnessing
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome, read_state
from site_kits.translation import _

log = logging.getLogger("consilium.site")

_TICK_S = 0.25
_TICKS_A_DAY = int(86_400 / _TICK_S)
_STOP_GRACE_S = 6.0


class StopRequestedError(AgentError):
    """Somebody pressed Ctrl-C while the agent was still waiting for something."""


class Agent:
    """One run of the site. ``stop`` may be set from a signal handler or a test.

    ``link`` and ``pin_file`` are looked at only by a site that is not enrolled yet.
    """

    def __init__(self, home: SiteHome, *, link: str | None = None, pin_file: str | None = None) -> None:
        self.home = home
        self._link, self._pin_file = link, pin_file
        self.stop = threading.Event()
        self.python = Path(sys.executable)
        self._board = StatusBoard(home)
        self._record = ChildRecord(home)
        self._fence, self._began_closed = Fence(home), False

    def run(self) -> None:
        """Everything, until ``stop``. Raises AgentError when only the operator can help."""
        manifest = preflight.load_manifest(self.home)
        preflight.check_python()
        preflight.check_disk(self.home)
        with HomeLock(self.home):
            if write_missing_policy(self.home, manifest.policy):
                log.info(
                    _("policy.toml was written: each run asks for your approval. Change it as you need.")
                )
            self._examine()
            orphans = self._record.end_orphans(self.home)
            if orphans:
                log.warning(_("Ended %d processes that a former start of this site had left."), orphans)
            self._board.put(site=manifest.site, title=manifest.title, pid=os.getpid())
            for name, sentence in look_at_folders(self.home).items():
                self._board.problem(f"data {name}", sentence)
            door = PortalDoor(manifest.agents_url, self.home.root_ca)
            try:
                self._live(manifest, door, self._identity(manifest, door))
            finally:
                door.close()

    def _examine(self) -> None:
        """What the doctor finds before every start; it stands among the problems until the next one."""
        for finding in examine(Patient(self.home), BEFORE_START):
            if finding.outcome in (Outcome.WARNING, Outcome.FAILED):
                self._board.problem(f"doctor {finding.code}", finding.sentence)
                log.warning("%s: %s", finding.title, finding.sentence)

    def _identity(self, manifest: KitManifest, door: PortalDoor) -> Identity:
        """The stored identity, or a fresh one for who was started with the link of an invitation."""
        if not self._link and renewal.is_damaged(self.home):
            log.warning(_("client.crt is damaged; the portal is asked for the certificate again."))
            return self._patiently(lambda: renewal.ask_again(self.home, manifest, door))
        try:
            identity = identity_here(self.home, manifest)
        except AgentError as exc:
            if not self._link:
                sentence = _("{sentence} Ask the administrator for a new invitation and run: ./start.sh LINK")
                raise AgentError(sentence.format(sentence=exc)) from exc
            log.warning(_("%s The link is used for a new certificate."), exc)
            identity = None
        if identity is None:
            given = read_invitation(self._link, self._pin_file, manifest)
            identity = self._patiently(lambda: enrol(self.home, manifest, door, given.token, given.pin))
            log.info(_("Enrolled: the key was made here and stays here."))
            if read_state(self.home.suggested_peers_json).get("peers"):
                log.info(_("The portal named other sites' keys. Confirm them by phone: ./start.sh peers"))
        until = identity.certificate.not_valid_after_utc.date().isoformat()
        log.info(_("Certificate of %s valid until %s (%d days)."), manifest.site, until, identity.days_left)
        return identity

    def _patiently(self, attempt: Callable[[], Identity]) -> Identity:
        """Try again while the portal cannot be reached: 2, 4, 8 … 30 s."""
        wait_s = 2.0
        while True:
            try:
                identity = attempt()
            except PortalUnreachableError as exc:
                self._board.problem("portal", str(exc))
                log.warning(_("%s Next attempt in %d s."), exc, wait_s)
                if self.stop.wait(wait_s):
                    raise StopRequestedError(_("Stopped before the site was enrolled.")) from exc
                wait_s = min(2 * wait_s, 30.0)
            else:
                self._board.problem("portal", None)
                return identity

    def _live(self, manifest: KitManifest, door: PortalDoor, identity: Identity) -> None:
        try:
            preflight.check_flare(manifest)
        except AgentError as exc:
            log.warning(str(exc))
        children = self._children()
        credentials = Credentials(self.home, manifest, identity)
        heartbeat = Heartbeat(self.home, credentials, door, self._board, children, self._fence, self.stop)
        threads = [
            heartbeat,
            Puller(self.home, credentials, door, self._board, self.stop),
            Renewer(credentials, door, self._board, self.stop),
            Witnessing(self.home, manifest, credentials, door, self._board, self.stop),
        ]
        try:
            for child in children.values():
                child.tick()
            for thread in threads:
                thread.start()
            self._say_where_the_console_is()
            log.info(_("Site %s is up. Stop it with Ctrl-C."), manifest.site)
            self._watch(children)
        finally:
            self.stop.set()
            log.info(_("Stopping…"))
            end_marked(self.home, CHILDREN, grace_s=_STOP_GRACE_S)
            for child in children.values():
                child.stopped()
            self._record.forget_all()
            self._board.put(**{name: {"state": "stopped"} for name in CHILDREN})
            log.info(_("Stopped; nothing of this site is running any more."))
        if heartbeat.has_twin:
            raise AgentError(
                _(
                    "Another agent with this site's key and certificate was at work before, so this one "
                    "stopped. Keep one; if nobody here started the other, tell the administrator now."
                )
            )

    def _watch(self, children: dict[str, Child]) -> None:
        ticks = 0
        while not self.stop.wait(_TICK_S):
            ticks += 1
            if self._began_closed and self._fence.is_open:
                # it read at its start that nothing is permitted
                children["client"].is_stale, self._began_closed = True, False
            for name, child in children.items():
                child.tick()
                self._board.problem(name, child.detail or None)
                if ticks % 40 == 0:
                    child.cap_log()
            if ticks % _TICKS_A_DAY == 1:
                self._prune()

    def _prune(self) -> None:
        if removed := prune_job_folders(self.home, now=time.time()):
            log.info(_("Removed the folders of %d training jobs that ended long ago."), len(removed))
        if moved := put_old_requests_aside(self.home, now=time.time()):
            log.info(_("Put %d requests of runs that ended long ago into requests/old."), len(moved))

    def _children(self) -> dict[str, Child]:
        common = {"home": self.home, "python": self.python, "record": self._record}
        client = Child(name="client", command=self._client_command, **common)  # type: ignore[arg-type]
        inference = Child(name="inference", command=self._inference_command, **common)  # type: ignore[arg-type]
        console = Child(name="console", command=self._console_command, **common)  # type: ignore[arg-type]
        return {"client": client, "inference": inference, "console": console}

    def _client_command(self) -> list[str]:
        for stale in ("daemon_pid.fl", "pid.fl", "shutdown.fl"):  # of a client that was killed
            (self.home.flare / stale).unlink(missing_ok=True)
        rotate_audit(self.home)
        self._fence.renew()
        self._began_closed = not self._fence.is_open
        return ["bash", str(self.home.flare / "startup" / "sub_start.sh"), "--once"]

    def _inference_command(self) -> list[str]:
        place = inference_place(self.home)
        self._board.put(inference_address=place.address, inference_url=place.url)
        listen = ["--host", place.host, "--port", str(place.port), "--url", place.url]
        return self._module("site_kits.inference", *listen)

    def _console_command(self) -> list[str]:
        port = console_port(self.home)
        self._board.put(console_url=f"http://127.0.0.1:{port}/")
        return self._module("site_kits.console", "--port", str(port))

    def _module(self, name: str, *arguments: str) -> list[str]:
        return [str(self.python), "-P", "-m", name, "--home", str(self.home.root), *arguments]

    def _say_where_the_console_is(self) -> None:
        """The passphrase goes to a terminal only: not to the log, and not into a service's journal."""
        log.info(_("Console for this site's operator: %s"), self._board.fact("console_url") or "-")
        if has_passphrase(self.home):
            return
        if sys.stdout.isatty():
            sentence = _("Its passphrase, shown this once: {words}")
            sys.stdout.write(sentence.format(words=new_passphrase(self.home)) + "\n")
        else:
            log.info(_("It has no passphrase yet. Make one with: ./start.sh console-password"))


def stop_on_signals(agent: Agent) -> None:
    """Ctrl-C, SIGTERM and a closed terminal stop the agent; ``nohup`` keeps its meaning."""

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        agent.stop.set()

    signal.signal(signal.SIGINT, ask_to_stop)
    signal.signal(signal.SIGTERM, ask_to_stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, ask_to_stop)
