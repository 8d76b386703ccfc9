"""Between portal and site: send what the operator asked, fetch what was answered. On the heartbeat's thread.

Files say how far it came, so an agent that is killed, or a portal that is away, costs a repetition. No text
of a question or an answer is written to the log of the process.
"""

import logging
from collections.abc import Callable

from fl_jobs.approval.records import RUN_ID
from fl_jobs.errors import FLJobError
from site_kits.agent.portal import PortalDoor, PortalRefusedError
from site_kits.agent.questions import answers_here, keep_answer, note_taken, unsent
from site_kits.agent.renewal import Credentials
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome
from site_kits.talk import QuestionBody
from site_kits.translation import _

log = logging.getLogger("consilium.site")
News = Callable[[str, str | None], None]
RUNS_A_BEAT = 50


class Asking:
    """One site's questions. ``news`` sets or clears a problem by topic."""

    def __init__(self, home: SiteHome, credentials: Credentials, door: PortalDoor, news: News) -> None:
        self._home, self._credentials, self._door, self._news = home, credentials, door, news

    def take(self, answered: object) -> None:
        """Send what waits; fetch what the portal has more of (the heartbeat's ``answers``)."""
        self._news("questions", self._send())
        self._news("answers", self._fetch(_well_formed(answered)))

    def _send(self) -> str | None:
        """What kept a question from being sent, as a sentence."""
        for question in unsent(self._home):
            body = QuestionBody(id=question.id, run_digest=question.run_digest, text=question.text)
            try:
                self._door.send_question(self._credentials.current.signer(), question.run_id, body)
            except PortalRefusedError as error:
                if error.status >= 500 or error.status == 401:
                    return str(error)
                note_taken(self._home, question, str(error))
            except AgentError as error:
                return str(error)
            else:
                note_taken(self._home, question)
                log.info(_("Run %s: this site's question is at the portal."), question.run_id[:8])
        return None

    def _fetch(self, answered: dict[str, int]) -> str | None:
        for run_id, count in answered.items():
            try:
                here = answers_here(self._home, run_id)
                if here is None or here >= count:
                    continue
                found = self._door.fetch_answers(self._credentials.current.signer(), run_id)
                kept = [keep_answer(self._home, run_id, answer) for answer in found.answers]
            except (AgentError, FLJobError) as error:
                return str(error)
            if any(kept):
                log.info(_("Run %s: a question of this site was answered; see the console."), run_id[:8])
        return None


def _well_formed(answered: object) -> dict[str, int]:
    entries = answered if isinstance(answered, list) else []
    pairs = {
        str(entry.get("run")): entry.get("answered")
        for entry in entries[:RUNS_A_BEAT]
        if isinstance(entry, dict)
    }
    return {run: count for run, count in pairs.items() if RUN_ID.fullmatch(run) and isinstance(count, int)}
