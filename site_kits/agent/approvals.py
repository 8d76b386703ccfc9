"""Between portal and site: fetch what is asked, let the policy decide, send signed decisions.

Runs on the heartbeat's thread. What a step could not do, the next beat does: files say how far it came.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fl_jobs.approval import RunRequest, SiteDecision, read_decision, read_request, site_policy
from fl_jobs.approval.records import REQUESTS, RUN_ID, run_folder
from fl_jobs.approval.refusals import read_refusals
from fl_jobs.errors import FLJobError
from site_kits.agent.fencing import Fence
from site_kits.agent.portal import PortalDoor, PortalRefusedError
from site_kits.agent.renewal import Credentials
from site_kits.agent.requests import decide_by_policy, is_sent, keep_request, note_sent
from site_kits.decisions import DecisionStatement
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome
from site_kits.translation import _

log = logging.getLogger("consilium.site")
News = Callable[[str, str | None], None]
REFUSALS_TOLD = 10
SHOWN_FOR = timedelta(hours=24)


class Approvals:
    """One site's requests and decisions. ``news`` sets or clears a problem by topic.

    No decision is sent before NVFlare's own files say the same.
    """

    def __init__(
        self, home: SiteHome, credentials: Credentials, door: PortalDoor, fence: Fence, news: News
    ) -> None:
        self._home, self._credentials, self._door, self._news = home, credentials, door, news
        self._fence = fence
        self._told: set[str] = set()
        self._settled: dict[str, int] = {}  # run id → time of its decision file, when nothing is to be done

    def take(self, pending: object) -> None:
        """Act on what the portal waits for (the heartbeat's ``requests``)."""
        waiting = _well_formed(pending)
        for run_id in waiting:
            self._settled.pop(run_id, None)
        problem = None
        for run_id, digest in waiting.items():
            try:
                self._fetch(run_id, digest)
            except AgentError as error:
                problem = str(error)
        self._news("requests", problem)
        self._decide()
        if self._is_fenced():
            self._send(set(waiting))
        self._tell_refusals()

    def _is_fenced(self) -> bool:
        try:
            self._fence.renew()
        except AgentError as error:
            self._news("fence", str(error))
            return False
        self._news("fence", None)
        return True

    def _fetch(self, run_id: str, digest: str) -> None:
        try:
            known = read_request(self._home.root, run_id)
        except FLJobError:  # never asked, or a damaged file: ask again
            request = self._door.fetch_request(self._credentials.current.signer(), run_id)
            if request.run_id != run_id or request.run_digest != digest:
                raise AgentError(_other_digest(run_id)) from None
            keep_request(self._home, request)
            log.info(
                _("%s asks this site to take part in “%s” (run %s)."),
                request.asked_by,
                request.study_title,
                run_id[:8],
            )
        else:
            if known.run_digest != digest:
                raise AgentError(_other_digest(run_id))

    def _decide(self) -> None:
        try:
            site_policy(self._home.root)
        except FLJobError as error:
            self._news("policy", str(error))
            return
        self._news("policy", None)
        open_runs = 0
        for request, decision in self._stored():
            if decision is not None:
                continue
            try:
                made = decide_by_policy(self._home, request)
            except AgentError as error:  # the site's log does not take it: decided at a later beat
                self._news("policy", str(error))
                return
            if made is None:
                open_runs += 1
            else:
                word = _("approved") if made.approve else _("refused")
                log.info(_("Run %s: %s by this site's policy. %s"), request.run_id[:8], word, made.reason)
        sentence = _("Runs that wait for your approval: {n}. See them with: consilium-site requests")
        self._news("approvals", sentence.format(n=open_runs) if open_runs else None)

    def _send(self, waiting: set[str]) -> None:
        for request, decision in self._stored():
            if decision is None:
                continue
            if is_sent(self._home, decision) and request.run_id not in waiting:
                self._settled[request.run_id] = _changed_at(self._home, request.run_id)
                continue
            statement = DecisionStatement(
                site=self._credentials.current.site,
                run_id=decision.run_id,
                run_digest=decision.run_digest,
                approve=decision.approve,
                by=decision.by,
                reason=decision.reason,
                rules=decision.rules,
                policy_digest=decision.policy.digest(),
                decided_at=decision.decided_at,
            )
            try:
                self._door.send_decision(self._credentials.current.signer(), statement)
            except PortalRefusedError as error:
                if error.status >= 500 or error.status == 401:
                    self._news("decisions", str(error))
                    return
                note_sent(self._home, decision, str(error))
            except AgentError as error:
                self._news("decisions", str(error))
                return
            else:
                note_sent(self._home, decision)
        self._news("decisions", None)

    def _stored(self) -> list[tuple[RunRequest, SiteDecision | None]]:
        folder, found = self._home.root / REQUESTS, []
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not RUN_ID.fullmatch(path.name):
                continue
            if self._settled.get(path.name) == _changed_at(self._home, path.name):
                continue  # hundreds of old runs are not read every five seconds
            try:
                found.append(
                    (read_request(self._home.root, path.name), read_decision(self._home.root, path.name))
                )
            except FLJobError as error:
                self._news(f"request {path.name[:8]}", str(error))
        return found

    def _tell_refusals(self) -> None:
        """Each job that the gate stopped is said once in the log; the newest stays among the problems."""
        refusals = read_refusals(self._home.root)
        for entry in refusals:
            sentence = str(entry.get("sentence", ""))
            mark = f"{entry.get('job')} {sentence}"
            if mark not in self._told:
                self._told.add(mark)
                log.warning(_("The NVFlare server sent a job that was stopped here: %s"), sentence)
        yesterday = (datetime.now(UTC) - SHOWN_FOR).isoformat()
        last = next((entry for entry in reversed(refusals) if str(entry.get("at", "")) > yesterday), None)
        self._news("refused job", str(last.get("sentence", "")) if last else None)


def refusals_to_report(home: SiteHome) -> list[dict[str, Any]]:
    """The newest stopped jobs, for the heartbeat: run, time, sentence."""
    return [
        {
            "run": str(entry.get("run", "")),
            "job": str(entry.get("job", "")),
            "at": str(entry.get("at", "")),
            "sentence": str(entry.get("sentence")),
        }
        for entry in read_refusals(home.root)[-REFUSALS_TOLD:]
    ]


def _changed_at(home: SiteHome, run_id: str) -> int:
    try:
        return (run_folder(home.root, run_id) / "decision.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _well_formed(pending: object) -> dict[str, str]:
    entries = pending if isinstance(pending, list) else []
    pairs = {
        str(entry.get("run")): str(entry.get("digest")) for entry in entries[:200] if isinstance(entry, dict)
    }
    return {run: digest for run, digest in pairs.items() if RUN_ID.fullmatch(run)}


def _other_digest(run_id: str) -> str:
    return _(
        "The portal names another digest for run {run} than the one this site was asked about; nothing was "
        "decided. Ask the administrator why."
    ).format(run=run_id[:8])
