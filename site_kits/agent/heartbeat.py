"""Every five seconds the site tells the portal how it is, and hears what it shall serve."""

import logging
import platform
import secrets
import threading
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx
from pydantic import ValidationError

from site_kits.agent.approvals import Approvals, refusals_to_report
from site_kits.agent.asking import Asking
from site_kits.agent.children import Child
from site_kits.agent.datasets import registered_cards
from site_kits.agent.enrolment import clock_sentence
from site_kits.agent.fencing import Fence
from site_kits.agent.portal import PortalDoor, PortalRefusedError, PortalUnreachableError
from site_kits.agent.renewal import Credentials
from site_kits.agent.standing import barred
from site_kits.agent.status import StatusBoard, utc_now
from site_kits.errors import AgentError
from site_kits.site_home import (
    ServeOrder,
    ServingState,
    SiteHome,
    file_sha256,
    read_serving,
    write_state,
)
from site_kits.translation import _

log = logging.getLogger("consilium.site")

INTERVAL_S = 5.0
LONGEST_INTERVAL_S = 15.0
_CLOCK_WARNING_S = 60.0
_EXPIRY_WARNING_DAYS = 21  # it is renewed at 30


def installed(package: str) -> str:
    """Version of an installed package, read without importing it; empty when it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


class Heartbeat(threading.Thread):
    """Signed reports on one thread; ``Puller`` fetches what the answers ask for on another."""

    def __init__(
        self,
        home: SiteHome,
        credentials: Credentials,
        door: PortalDoor,
        board: StatusBoard,
        children: dict[str, Child],
        fence: Fence,
        stop: threading.Event,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._home, self._credentials, self._door, self._board = home, credentials, door, board
        self._children, self._stop_event = children, stop
        self._approvals = Approvals(home, credentials, door, fence, self._news)
        self._asking = Asking(home, credentials, door, self._news)
        self._fixed = {
            "agent_version": installed("consilium"),
            "python": platform.python_version(),
            "nvflare": installed("nvflare"),
            "torch": installed("torch"),
            "started_at": board.fact("started_at"),
            "instance": secrets.token_hex(16),  # tells this start of the agent from a second one elsewhere
        }
        self.has_twin = False  # another agent with this identity is at work, and it was there before
        self._local = httpx.Client(timeout=2.0, trust_env=False)

    def run(self) -> None:
        """Beat until stopped; slower while the portal does not answer."""
        wait_s = INTERVAL_S
        while not self._stop_event.is_set():
            wait_s = INTERVAL_S if self._beat_anyway() else min(wait_s * 1.5, LONGEST_INTERVAL_S)
            self._stop_event.wait(wait_s)
        self._local.close()

    def _beat_anyway(self) -> bool:
        """One beat; a full disk costs this one, never the thread."""
        try:
            taken = self.beat()
        except OSError as exc:
            sentence = _("The site's folder cannot be written: {e}. Make room on its disk.")
            self._news("disk", sentence.format(e=exc.strerror))
            return False
        self._news("disk", None)
        return taken

    def beat(self) -> bool:
        """One report; False when the portal did not take it."""
        report = self.report()
        self._board.put(
            client=report["client"],
            inference=report["inference"],
            console={"state": self._children["console"].state},
            datasets=report["datasets"],
            serving=report["serving"],
            certificate_days_left=report["certificate_days_left"],
        )
        self._watch_certificate()
        refused = [model["detail"] for model in report["serving"] if model["state"] == "refused"]
        self._news("models", refused[0] if refused else None)
        try:
            answer = self._door.heartbeat(self._credentials.current.signer(), report)
        except PortalRefusedError as exc:
            self._hold_client(barred(exc))
            if exc.code == "twin":
                self.has_twin = True
                self._stop_event.set()
            self._news("portal", _("The portal does not accept this site's report: {s}").format(s=exc))
            self._watch_clock(self._door.clock_difference_s)
            return False
        except PortalUnreachableError as exc:
            self._news("portal", str(exc))
            return False
        self._news("portal", None)
        self._hold_client(None)
        self._watch_clock(_clock_difference(answer.get("server_time")))
        self._keep(answer)
        self._approvals.take(answer.get("requests"))
        self._asking.take(answer.get("answers"))
        self._board.put(portal={"last_heartbeat": utc_now(), "url": self._door.url})
        return True

    def report(self) -> dict[str, Any]:
        """What the portal is told: versions, states, counts. No row of data, no path, no log line."""
        client, inference = self._children["client"], self._children["inference"]
        models = self._ask_inference(inference)
        state = inference.state if models is not None or inference.state != "running" else "starting"
        return self._fixed | {
            "client": {"state": client.state, "restarts": client.restarts},
            "inference": {"url": self._board.fact("inference_url") or "", "state": state},
            "datasets": registered_cards(self._home),
            "certificate_days_left": int(self._credentials.current.days_left),
            "serving": models or [],
            "refusals": refusals_to_report(self._home),
        }

    def _ask_inference(self, inference: Child) -> list[dict[str, Any]] | None:
        """The models' states from the inference process itself; None while it does not answer."""
        address = self._board.fact("inference_address")
        if not address or inference.state != "running":
            return None
        try:
            answer = self._local.get(f"{address}/v1/status").json()
            return [
                {"promotion": model["promotion"]}
                | {key: str(model[key])[:500] for key in ("state", "detail", "label")}
                for model in answer["models"]
            ]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, answer: dict[str, Any]) -> None:
        """Write the orders down for the inference process; an unusable order is said, the others count."""
        orders, unusable = [], 0
        for order in answer.get("serve") or []:
            try:
                orders.append(ServeOrder.model_validate(order))
            except ValidationError:
                unusable += 1
        sentence = _("{n} serving orders of the portal are not usable; is this kit too old?").format(
            n=unusable
        )
        self._news("orders", sentence if unusable else None)
        try:
            serving = ServingState(
                orders=tuple(orders),
                ticket_keys=tuple(answer.get("ticket_keys") or ()),
                web_origin=str(answer.get("web_origin") or ""),
            )
        except ValidationError:
            return
        if serving != read_serving(self._home):
            write_state(self._home.serving_json, serving.model_dump(mode="json"))

    def _watch_clock(self, difference_s: float | None) -> None:
        if difference_s is None:
            return
        self._board.put(clock_difference_s=round(difference_s, 1))
        sentence = clock_sentence(difference_s)
        self._news("clock", sentence if abs(difference_s) > _CLOCK_WARNING_S else None)

    def _hold_client(self, sentence: str | None) -> None:
        """The training client runs exactly while the site's certificate counts."""
        self._news("standing", sentence)
        self._children["client"].held = sentence or ""

    def _watch_certificate(self) -> None:
        days = self._credentials.current.days_left
        sentence = _(
            "The certificate of this site expires in {days} days and was not renewed yet; ask for a new kit "
            "before."
        ).format(days=int(days))
        if days < 0:
            sentence = _("THE CERTIFICATE OF THIS SITE HAS EXPIRED. Ask for a new kit and unpack it here.")
        self._news(
            "certificate", sentence if days < _EXPIRY_WARNING_DAYS and self._credentials.is_due() else None
        )

    def _news(self, topic: str, sentence: str | None) -> None:
        if self._board.problem(topic, sentence):
            if sentence is None:
                log.info(_("Solved: %s"), topic)
            else:
                log.warning(sentence)


def _clock_difference(server_time: object) -> float | None:
    """Seconds this clock is ahead of the portal's (unix seconds or ISO 8601)."""
    if isinstance(server_time, (int, float)):
        return time.time() - server_time
    if isinstance(server_time, str):
        try:
            return time.time() - datetime.fromisoformat(server_time).timestamp()
        except ValueError:
            return None
    return None


class Puller(threading.Thread):
    """Fetches shared parts that an order names and this site lacks or holds altered, beside the heartbeat."""

    def __init__(
        self,
        home: SiteHome,
        credentials: Credentials,
        door: PortalDoor,
        board: StatusBoard,
        stop: threading.Event,
    ) -> None:
        super().__init__(name="puller", daemon=True)
        self._home, self._credentials, self._door, self._board = home, credentials, door, board
        self._stop_event = stop
        self._checked: dict[str, tuple[int, int]] = {}  # digest → size and time of change when it fitted

    def run(self) -> None:
        """Look once a second; after a failure wait longer, up to half a minute."""
        wait_s = 1.0
        while not self._stop_event.wait(wait_s):
            wait_s = 1.0 if self.pull_missing() else min(2 * wait_s, 30.0)

    def pull_missing(self) -> bool:
        """Fetch everything missing once; False when something could not be fetched."""
        for order in read_serving(self._home).orders:
            digest = order.shared_sha256
            if digest is None:
                continue
            try:
                if self._is_whole(digest):
                    continue
                self._door.fetch_artifact(
                    self._credentials.current.signer(), digest, self._home.artifact(digest)
                )
            except AgentError as exc:
                self._board.problem("artifacts", str(exc))
                return False
            except OSError as exc:
                self._board.problem(
                    "artifacts", _("A model file could not be stored: {e}").format(e=exc.strerror)
                )
                return False
            log.info(_("Shared part %s… of %s arrived and was checked."), digest[:12], order.study)
        self._board.problem("artifacts", None)
        return True

    def _is_whole(self, digest: str) -> bool:
        """Whether the file is there and is what it is called; read again only when it looks different."""
        path = self._home.artifact(digest)
        if not path.is_file():
            return False
        facts = path.stat()
        look = (facts.st_size, facts.st_mtime_ns)
        if self._checked.get(digest) != look:
            if file_sha256(path) != digest:
                log.warning(_("Shared part %s… on this disk was altered; it is fetched again."), digest[:12])
                return False
            self._checked[digest] = look
        return True
