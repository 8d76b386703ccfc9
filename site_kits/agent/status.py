"""The agent's own account of itself: ``state/status.json``, what ``consilium-site status`` prints."""

import contextlib
import threading
import time
from datetime import UTC, datetime
from typing import Any

from site_kits.agent.processes import HomeLock
from site_kits.agent.witness_words import status_line
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.translation import _


def utc_now() -> str:
    """Now, ISO 8601 with zone, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class StatusBoard:
    """Facts and open problems by topic; written whenever they change. Used from several threads."""

    def __init__(self, home: SiteHome) -> None:
        self._path = home.status_json
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = {"started_at": utc_now()}
        self._problems: dict[str, str] = {}

    def put(self, **facts: Any) -> None:
        """Replace facts and write the file."""
        with self._lock:
            self._facts.update(facts)
            self._write()

    def problem(self, topic: str, sentence: str | None) -> bool:
        """Set or clear the problem of ``topic``; True when that is news."""
        with self._lock:
            if self._problems.get(topic) == sentence:
                return False
            if sentence is None:
                del self._problems[topic]
            else:
                self._problems[topic] = sentence
            self._write()
            return True

    def fact(self, name: str) -> Any:
        """A fact as last put; None when there is none."""
        with self._lock:
            return self._facts.get(name)

    def _write(self) -> None:
        """A full disk is no reason to end the site; the page and ``status`` then say that this is old."""
        with contextlib.suppress(OSError):
            write_state(
                self._path, self._facts | {"problems": dict(self._problems), "written_at": time.time()}
            )


def render_status(home: SiteHome) -> tuple[str, bool]:
    """The status for a person, and whether the agent runs without an open problem."""
    pid = HomeLock.holder(home.state / "agent.lock")
    if absent := _absent(home, pid):
        return absent, False
    status = read_state(home.status_json)
    unknown: dict[str, Any] = {}
    client, inference = status.get("client", unknown), status.get("inference", unknown)
    lines = [
        _("Site {site} is running (process {pid}).").format(site=status.get("site", "?"), pid=pid),
        _("  training client:  {state}, {restarts} restarts").format(
            state=client.get("state", "?"), restarts=client.get("restarts", 0)
        ),
        _("  predictions:      {state}, {url}").format(
            state=inference.get("state", "?"), url=inference.get("url", "-")
        ),
        _("  console:          {state}, {url}").format(
            state=status.get("console", {}).get("state", "?"), url=status.get("console_url", "-")
        ),
        _("  portal:           {answer}").format(answer=_portal_line(status)),
        status_line(status),
        _("  certificate:      {days} days left").format(days=status.get("certificate_days_left", "?")),
    ]
    lines += [
        _("  data set {name}: {rows} rows").format(name=card.get("name"), rows=card.get("rows"))
        for card in status.get("datasets", [])
    ]
    lines += [
        _("  model {label}: {state}").format(
            label=model.get("label") or model.get("promotion"), state=_said(model)
        )
        for model in status.get("serving", [])
    ]
    problems = list(status.get("problems", unknown).values())
    lines += [_("  to do: {sentence}").format(sentence=sentence) for sentence in problems]
    return "\n".join(lines), not problems


def _absent(home: SiteHome, pid: int | None) -> str:
    """Why there is no status; empty for a site that runs."""
    if left := read_state(home.state / "left.json"):
        sentence = _(
            "This site left the federation on {day}. To come back, ask the administrator for a new kit."
        )
        return sentence.format(day=str(left.get("at", "?"))[:10])
    if pid is None:
        return _("This site is not running. Start it with ./start.sh in {folder}.").format(folder=home.root)
    return ""


def _portal_line(status: dict[str, Any]) -> str:
    last = status.get("portal", {}).get("last_heartbeat")
    return _("last answer {time}").format(time=last) if last else _("no answer yet")


def _said(model: dict[str, Any]) -> str:
    return " — ".join(part for part in (model.get("state", "?"), model.get("detail", "")) if part)
