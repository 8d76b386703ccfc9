"""One examination of a site: what a check is given, what it may find, and the order of the findings."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from fl_jobs.errors import FLJobError
from site_kits.agent.enrolment import Identity, stored_identity
from site_kits.agent.portal import PortalDoor
from site_kits.agent.preflight import load_manifest
from site_kits.agent.processes import HomeLock
from site_kits.errors import SiteKitError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome
from site_kits.translation import _


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class WarningFoundError(SiteKitError):
    """The site can run, but the operator should know."""


class NotExaminedError(SiteKitError):
    """The check has nothing to look at, or an earlier finding is in its way."""


@dataclass(frozen=True)
class Finding:
    """``code`` is the check's stable name for programs; ``sentence`` says what is wrong and what to do."""

    code: str
    title: str
    outcome: Outcome
    sentence: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Patient:
    """The site as the checks see it. What cannot be read raises SiteKitError in each check that asks."""

    home: SiteHome
    known: dict[str, Any] = field(default_factory=dict)  # what one check leaves for a later one

    @cached_property
    def manifest(self) -> KitManifest:
        return load_manifest(self.home)

    @cached_property
    def door(self) -> PortalDoor:
        return PortalDoor(self.manifest.agents_url, self.home.root_ca)

    @cached_property
    def identity(self) -> Identity | None:
        return stored_identity(self.home, self.manifest)

    @property
    def is_running(self) -> bool:
        return HomeLock.holder(self.home.state / "agent.lock") is not None

    def close(self) -> None:
        """Give the connections back."""
        if "door" in self.__dict__:
            self.door.close()


@dataclass(frozen=True)
class Check:
    """``look`` returns when all is well and raises with a sentence when not. ``needs`` are earlier codes."""

    code: str
    title: str  # English; the catalogue has the Chinese
    look: Callable[[Patient], None]
    needs: tuple[str, ...] = ()
    is_local: bool = True  # asks nothing of the network


def examine(patient: Patient, checks: Iterable[Check]) -> Iterator[Finding]:
    """Each check's finding as it comes; one whose ``needs`` were not met is skipped, not guessed."""
    titles: dict[str, str] = {}
    met: set[str] = set()
    for check in checks:
        titles[check.code] = _(check.title)
        missing = [titles.get(need, need) for need in check.needs if need not in met]
        finding = _look(patient, check, missing)
        if finding.outcome in (Outcome.OK, Outcome.WARNING):
            met.add(check.code)
        yield finding


def _look(patient: Patient, check: Check, missing: list[str]) -> Finding:
    title = _(check.title)
    if missing:
        sentence = _("not examined: first put right “{check}”").format(check=missing[0])
        return Finding(check.code, title, Outcome.SKIPPED, sentence)
    try:
        check.look(patient)
    except NotExaminedError as exc:
        return Finding(check.code, title, Outcome.SKIPPED, str(exc))
    except WarningFoundError as exc:
        return Finding(check.code, title, Outcome.WARNING, str(exc))
    except (SiteKitError, FLJobError) as exc:
        return Finding(check.code, title, Outcome.FAILED, str(exc))
    except OSError as exc:
        sentence = _("The file system refused: {reason} ({file}). Give the site's user the right to read it.")
        reason = exc.strerror or type(exc).__name__
        return Finding(check.code, title, Outcome.FAILED, sentence.format(reason=reason, file=exc.filename))
    return Finding(check.code, title, Outcome.OK)
