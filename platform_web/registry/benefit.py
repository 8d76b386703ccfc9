"""What a run's shared figures say about all its sites together, by the run's own analysis."""

from dataclasses import dataclass

from fl_jobs.benefit import Difference, FederationVerdict, judge_federation
from fl_jobs.choosing import Gain, PooledGain, pool_sites
from platform_web.registry.models import Arm, SiteModel
from platform_web.training.errors import RunStateError
from platform_web.training.models import Run

HELPS_ALONE = "helps, uncorrected"
METRICS = (
    "balanced_accuracy",
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
    """The candidate arm over all sites of the run. ``pooled`` is by validation, the rest by the test parts."""

    candidate: Arm
    margin: float
    specificity: float
    verdict: FederationVerdict
    pooled: dict[str, PooledGain]
    titles: dict[str, str]
    worst_value: float | None

    @property
    def sites(self) -> int:
        return len(self.titles)

    @property
    def helped(self) -> list[str]:
        return [self.titles[name] for name in self.verdict.helped]

    @property
    def harmed(self) -> list[str]:
        return [self.titles[name] for name in self.verdict.harmed]

    @property
    def worst(self) -> str:
        return self.titles.get(self.verdict.worst or "", "")

    @property
    def margin_points(self) -> str:
        return f"{100 * self.margin:g}"

    @property
    def specificity_percent(self) -> str:
        return f"{100 * self.specificity:g}"


def summarise(run: Run) -> BenefitSummary | None:
    """None for a run without a candidate, and for one of an older version, whose figures say less.

    A site counts with its shared figures for everybody who may see the run; a site that keeps them is counted.
    """
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
    validated = {
        name: found["validation"] for name, found in stored.items() if found and "validation" in found
    }
    gains = {name: Gain(float(v["value"]), float(v["error"])) for name, v in validated.items()}
    verdict = judge_federation(cells, error=spec.analysis.error)
    worst = cells.get(verdict.worst or "")
    return BenefitSummary(
        candidate=Arm(candidate),
        margin=spec.analysis.margin,
        specificity=spec.analysis.specificity,
        verdict=verdict,
        pooled=pool_sites(gains, spec.analysis.margin),
        titles={model.site.name: model.site.title for model in models},
        worst_value=worst.value if worst else None,
    )
