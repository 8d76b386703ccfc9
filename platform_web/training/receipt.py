"""What a run's page says about masks and NVFlare jobs: read from rows, as far as the reader may see names."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from platform_web.accounts.scope import AnyUser
from platform_web.federation.models import Site
from platform_web.training import interruptions
from platform_web.training.models import Round, Run, RunJob
from secure_agg.errors import SecureAggregationError
from secure_agg.thresholds import SMALLEST_COHORT, colluding_default, threshold

LATEST = 12  # rounds shown while the run goes on; all of them once it has ended
SLOW = timedelta(seconds=15)


class Names:
    """Titles of the sites this person may see; the others are counted."""

    def __init__(self, user: AnyUser) -> None:
        self._titles = dict(Site.objects.for_user(user).values_list("name", "title"))

    def title(self, name: str) -> str | None:
        return self._titles.get(name)

    def listed(self, names: Iterable[str]) -> str:
        names = list(names)
        seen = sorted(self._titles[name] for name in names if name in self._titles)
        if hidden := len(names) - len(seen):
            seen.append(ngettext("%(n)d other site", "%(n)d other sites", hidden) % {"n": hidden})
        return ", ".join(seen)


@dataclass(frozen=True)
class JobRow:
    """One NVFlare job of the run and why it ended."""

    job: RunJob
    why: str
    detail: str  # the job's own sentence where ``why`` is the translated one of its code


@dataclass(frozen=True)
class RoundRow:
    """One masked sum."""

    number: int
    epoch: int
    survivors: int
    asked: int
    absent: str
    recovered: str
    clip_rate: float
    digests: dict[str, str]


@dataclass(frozen=True)
class Receipt:
    """All of it, for the template."""

    run: Run
    names: Names
    jobs: list[RunJob]
    masked: list[Round] = field(default_factory=list)

    @property
    def is_masked(self) -> bool:
        return not self.run.server_sees_updates

    @cached_property
    def _job(self) -> RunJob | None:
        """The latest job that has a roster."""
        return next((job for job in reversed(self.jobs) if job.roster), None)

    @cached_property
    def roster(self) -> dict[str, Any]:
        return (self._job.roster if self._job else None) or {}

    @property
    def cohort(self) -> str:
        return self.names.listed(self.roster.get("sites", ()))

    @property
    def asked(self) -> int:
        """How many sites were asked to take part."""
        return len(self._job.sites) if self._job else self.run.sites.count()

    @property
    def pinned(self) -> int:
        return self._trusted("pinned")

    @property
    def by_authority(self) -> int:
        return self._trusted("ca")

    def _trusted(self, mode: str) -> int:
        verified = self.roster.get("verified", {})
        return sum(verified.get(site) == mode for site in self.roster.get("sites", ()))

    @property
    def refused(self) -> list[tuple[str, str]]:
        found = sorted(self.roster.get("refused", {}).items())
        return [(str(self.names.title(name)), sentence) for name, sentence in found if self.names.title(name)]

    @property
    def members(self) -> int:
        return len(self.roster.get("sites", ())) or self.run.sites.count()

    @cached_property
    def needed(self) -> int:
        """Sites without which a round is not finished."""
        if self.run.server_sees_updates:
            return self.run.min_sites
        count = self.members
        try:
            least = int(
                self.roster.get("threshold") or threshold(count, colluding_default(count), SMALLEST_COHORT)
            )
        except SecureAggregationError:  # too few members: none may be missing
            least = count
        return max(least, self.run.min_sites)

    @property
    def tolerated(self) -> int:
        return max(self.members - self.needed, 0)

    @property
    def last(self) -> dict[str, Any]:
        return (self.masked[-1].masking if self.masked else None) or {}

    @property
    def clip_rate(self) -> float:
        """Share of all values that were cut to the bound, in per cent."""
        clipped = sum((row.masking or {}).get("clipped", 0) for row in self.masked)
        total = sum((row.masking or {}).get("clip_total", 0) for row in self.masked)
        return 100 * clipped / total if total else 0.0

    @cached_property
    def differing_by_one(self) -> int:
        """Consecutive rounds whose cohorts differ by one site: their difference is nearest to one update."""
        cohorts = [set((row.masking or {}).get("cohort", ())) for row in self.masked]
        return sum(len(one ^ other) == 1 for one, other in pairwise(cohorts))

    @property
    def round_rows(self) -> list[RoundRow]:
        """The newest first."""
        newest = list(reversed(self.masked))
        return [self._round_row(row) for row in (newest if self.run.is_final else newest[:LATEST])]

    def _round_row(self, row: Round) -> RoundRow:
        masking = row.masking or {}
        asked: list[str] = next((job.sites for job in self.jobs if job.epoch == row.epoch), [])
        total = masking.get("clip_total", 0)
        return RoundRow(
            number=row.number,
            epoch=row.epoch,
            survivors=len(masking.get("cohort", ())),
            asked=len(asked),
            absent=self.names.listed(sorted(set(asked) - set(masking.get("cohort", ())))),
            recovered=self.names.listed(masking.get("recovered", ())),
            clip_rate=100 * masking.get("clipped", 0) / total if total else 0.0,
            digests=row.aggregate_sha256,
        )

    @property
    def job_rows(self) -> list[JobRow]:
        return [_job_row(job) for job in self.jobs]

    @property
    def interruption(self) -> JobRow | None:
        """Why the run waits, while it waits."""
        if self.run.state != Run.State.RESUMING or not self.jobs:
            return None
        return _job_row(self.jobs[-1])

    @property
    def failure(self) -> str:
        """The sentence of a failed run, in the reader's language where the last job gave a code."""
        last = _job_row(self.jobs[-1]) if self.jobs else None
        said = last is not None and last.detail and last.detail == self.run.error
        return f"{last.why} {last.detail}" if last and said else self.run.error

    @property
    def goes_on(self) -> str:
        """When a run that waits goes on, in a sentence."""
        facts = {"round": min(self.run.next_round(), self.run.rounds), "least": self.run.fewest_sites}
        if (self.run.interruption or {}).get("code") == interruptions.DIFFERENCING:
            return (
                _(
                    "It goes on by itself from round %(round)d as soon as the same sites are back. "
                    "Nobody has to approve it again."
                )
                % facts
            )
        return (
            _(
                "It goes on by itself from round %(round)d when all of its sites are back, or after a minute "
                "with at least %(least)d of them. Nobody has to approve it again."
            )
            % facts
        )

    @property
    def gives_up(self) -> datetime | None:
        return self.run.interrupted_at + timedelta(hours=24) if self.run.interrupted_at else None

    @property
    def is_silent(self) -> bool:
        """Whether the job or the server has not answered for a while."""
        asked = self.run.state in {Run.State.SUBMITTED, Run.State.RUNNING}
        return asked and self.run.silent_since is not None and now() - self.run.silent_since > SLOW

    @property
    def returning(self) -> str:
        """Sites for whose sake the present job ends at the next boundary."""
        back: list[str] = (self.jobs[-1].rejoin if self.jobs else None) or []
        return self.names.listed(back) if self.run.state == Run.State.RUNNING else ""


def _job_row(job: RunJob) -> JobRow:
    words = interruptions.in_words(job.code)
    return JobRow(job, why=words or job.error, detail=job.error if words and job.error != words else "")


def receipt_of(run: Run, user: AnyUser) -> Receipt:
    """The receipt of a run as this person may see it."""
    rounds = Round.objects.filter(run=run, masking__isnull=False)
    masked = [] if run.server_sees_updates else list(rounds)
    return Receipt(run, Names(user), list(run.jobs.order_by("epoch")), masked)
