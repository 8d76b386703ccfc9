"""What a run's shared figures say about all its sites together, by the run's own analysis."""

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from fl_jobs.benefit import Difference, FederationVerdict, judge_federation
from fl_jobs.choosing import Gain, PooledGain, pool_sites
from platform_web.accounts.scope import AnyUser, sees_all_sites
from platform_web.federation.models import Site
from platform_web.registry.models import Arm, SiteModel
from platform_web.training.errors import RunStateError
from platform_web.training.models import Run

HELPS_ALONE = "helps, uncorrected"
METRICS = (
    "balanced_accuracy",
    "positive_balanced_accuracy",
    "accuracy",
    "auroc",
    "macro_f1",
    "sensitivity",
    "specificity",
    "ece",
    "log_loss",
)


@dataclass(frozen=True)
class BenefitSummary:
    """The candidate arm over all sites of the run; ``pooled`` is by validation, the rest by the test parts.

    ``titles`` are of the sites this person may see; of others only how many they are is said, and ``worst``
    (title and difference of the worst site) only to who sees all.
    """

    candidate: Arm
    margin: float
    specificity: float
    verdict: FederationVerdict
    pooled: dict[str, PooledGain]
    titles: dict[str, str]
    worst: tuple[str, float] | None

    @property
    def sites(self) -> int:
        verdict = self.verdict
        return len(verdict.bounded) + len(verdict.unbounded) + verdict.unknown

    @property
    def helped(self) -> list[str]:
        return self._named(self.verdict.helped)

    @property
    def harmed(self) -> list[str]:
        return self._named(self.verdict.harmed)

    @property
    def margin_points(self) -> str:
        return f"{100 * self.margin:g}"

    @property
    def specificity_percent(self) -> str:
        return f"{100 * self.specificity:g}"

    def _named(self, sites: tuple[str, ...]) -> list[str]:
        return [self.titles.get(name, _("another site")) for name in sites]


def summarise(run: Run, user: AnyUser) -> BenefitSummary | None:
    """None for a run without a candidate, and for one of an older version, whose figures say less."""
    try:
        spec = run.run_spec()
    except RunStateError:
        return None
    candidate = spec.candidate()
    if spec.version == 1 or candidate is None:
        return None
    models = SiteModel.objects.filter(version__run=run, version__arm=candidate).select_related("site")
    stored = {model.site.name: model.difference for model in models}
    if not stored:
        return None
    cells = {name: Difference.from_json(found) if found else None for name, found in stored.items()}
    verdict = judge_federation(cells, error=spec.analysis.error)
    titles = dict(Site.objects.for_user(user).filter(name__in=stored).values_list("name", "title"))
    worst = cells.get(verdict.worst or "") if sees_all_sites(user) else None
    return BenefitSummary(
        candidate=Arm(candidate),
        margin=spec.analysis.margin,
        specificity=spec.analysis.specificity,
        verdict=verdict,
        pooled=pool_sites(_validated(stored), spec.analysis.margin),
        titles=titles,
        worst=(titles[verdict.worst or ""], worst.value) if worst else None,
    )


def _validated(stored: dict[str, dict[str, Any] | None]) -> dict[str, Gain]:
    """What the sites that share it measured on validation."""
    found = {name: (difference or {}).get("validation") for name, difference in stored.items()}
    return {name: Gain(float(gain["value"]), float(gain["error"])) for name, gain in found.items() if gain}
