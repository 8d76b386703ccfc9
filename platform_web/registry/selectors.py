"""Reads of the registry: what a site serves, what it may fetch, and the benefit table."""

from dataclasses import dataclass, field
from typing import Any

from fl_jobs.choosing import PooledGain
from platform_web.accounts.scope import AnyUser
from platform_web.federation.models import Site
from platform_web.registry.benefit import HELPS_ALONE, METRICS, BenefitSummary, summarise
from platform_web.registry.models import Arm, ModelVersion, Promotion, SiteModel
from platform_web.training.models import Run

DEFAULT_METRIC = "balanced_accuracy"


def serve_orders(site: Site) -> list[dict[str, Any]]:
    """What ``site`` is to serve now, for the answer to its heartbeat."""
    active = Promotion.objects.filter(site=site, withdrawn=None).select_related(
        "site_model__version__run", "study"
    )
    return [
        {
            "promotion": promotion.pk,
            "study": promotion.study.slug,
            "algorithm": promotion.site_model.version.run.algorithm,
            "run": str(promotion.site_model.version.run_id),
            "run_digest": promotion.site_model.version.run.run_digest,
            "arm": promotion.site_model.version.arm,
            "round": promotion.site_model.round,
            "shared_sha256": promotion.site_model.version.shared_sha256 or None,
            "personal_sha256": promotion.site_model.personal_sha256,
            "version_label": promotion.site_model.version.label,
        }
        for promotion in active.order_by("pk")
    ]


def site_may_read(site: Site, sha256: str) -> bool:
    """Whether ``site`` took part in a run whose shared part has this digest."""
    return bool(sha256) and ModelVersion.objects.filter(shared_sha256=sha256, run__sites=site).exists()


@dataclass(frozen=True)
class BenefitCell:
    """One arm at one site: its figure in the metric of the comparison, and the difference to local-only."""

    arm: Arm
    model: SiteModel | None
    metric: str
    summary: BenefitSummary | None = None

    @property
    def figures(self) -> dict[str, Any]:
        """All that the site measured of this arm; empty where it keeps its figures."""
        return (self.model.cells or {}) if self.model else {}

    @property
    def value(self) -> float | None:
        return self.figures.get(self.metric)

    @property
    def difference(self) -> dict[str, Any] | None:
        return self.model.difference if self.model else None

    @property
    def is_candidate(self) -> bool:
        """Whether this is the arm the run set out to test; the others are shown for information."""
        return self.summary is None or self.summary.candidate == self.arm

    @property
    def verdict(self) -> str:
        """The verdict to show; that of the candidate after correction over the sites."""
        found = str((self.difference or {}).get("verdict", ""))
        if self.summary is None or self.model is None or not self.is_candidate or found != "helps":
            return found
        return found if self.model.site.name in self.summary.verdict.helped else HELPS_ALONE

    @property
    def pooled(self) -> PooledGain | None:
        """The candidate's likely gain here, by the validation parts of all sites that share theirs."""
        if self.summary is None or self.model is None or not self.is_candidate:
            return None
        return self.summary.pooled.get(self.model.site.name)


@dataclass
class BenefitRow:
    """One site's line of the benefit table; cells in the order local, global, tuned, personal."""

    site: Site
    models: dict[str, SiteModel] = field(default_factory=dict)
    promotion: Promotion | None = None
    summary: BenefitSummary | None = None

    @property
    def metric(self) -> str:
        """The metric in which the differences were measured."""
        found = (model.difference.get("metric") for model in self.models.values() if model.difference)
        return next((str(name) for name in found if name), DEFAULT_METRIC)

    @property
    def fewest(self) -> tuple[str, int] | None:
        """The class with the fewest test groups and their number: by it the site can be tested or not."""
        counts = (model.difference.get("groups") for model in self.models.values() if model.difference)
        groups: dict[str, int] = next((found for found in counts if found), {})
        return min(groups.items(), key=lambda item: item[1], default=None)

    @property
    def cells(self) -> list[BenefitCell]:
        return [BenefitCell(arm, self.models.get(arm), self.metric, self.summary) for arm in Arm]

    @property
    def measured(self) -> list[tuple[str, list[float | None]]]:
        """Every figure the site shares: name, and one value per arm."""
        cells = self.cells
        shown = [name for name in METRICS if any(name in cell.figures for cell in cells)]
        return [(name, [cell.figures.get(name) for cell in cells]) for name in shown]

    @property
    def bins(self) -> int | None:
        """How many bins the calibration error was taken over."""
        found = next((cell.figures["ece_bins"] for cell in self.cells if "ece_bins" in cell.figures), None)
        return int(found) if found else None

    @property
    def any_model(self) -> SiteModel:
        return next(iter(self.models.values()))

    @property
    def is_shared(self) -> bool:
        """Whether the site's policy lets its figures be seen here."""
        return any(model.cells for model in self.models.values())


def benefit_rows(run: Run, user: AnyUser) -> list[BenefitRow]:
    """The benefit table of a run, of the sites ``user`` may see."""
    rows: dict[int, BenefitRow] = {}
    models = SiteModel.objects.for_user(user).filter(version__run=run).select_related("site", "version")
    for model in models.order_by("site__name", "version_id"):
        rows.setdefault(model.site_id, BenefitRow(site=model.site)).models[model.version.arm] = model
    active = Promotion.objects.filter(study=run.study, site__in=rows, withdrawn=None)
    for promotion in active.select_related("site_model__version"):
        rows[promotion.site_id].promotion = promotion
    summary = summarise(run, user)
    for row in rows.values():
        row.summary = summary
    return list(rows.values())


def cohort_cells(run: Run) -> list[tuple[Arm, dict[str, Any]]]:
    """Test figures of all sites together, per arm, also where sites keep theirs. Empty before the end."""
    cohort = (run.finish or {}).get("cohort") or {}
    cells = [(arm, dict(cohort.get(arm.value, {}))) for arm in Arm] if cohort else []
    for _arm, figures in cells:
        figures["test_n"] = int(figures.get("test_n") or 0)  # a masked sum comes as a float
    return cells


def version_rows(run: Run, user: AnyUser) -> list[dict[str, Any]]:
    """Versions of a run with the site models this person may see, as the page's script reads them."""
    active = set(
        Promotion.objects.filter(study=run.study, withdrawn=None).values_list("site_model_id", flat=True)
    )
    own: dict[int, list[dict[str, Any]]] = {}
    models = SiteModel.objects.for_user(user).filter(version__run=run).select_related("site", "version")
    for model in models.order_by("site__name"):
        own.setdefault(model.version_id, []).append(
            {
                "id": model.pk,
                "site": model.site.name,
                "arm": model.version.arm,
                "round": model.round,
                "personal_sha256": model.personal_sha256,
                "cells": model.cells,
                "difference": model.difference,
                "proposal": model.proposal,
                "promoted": model.pk in active,
            }
        )
    return [
        {
            "id": version.pk,
            "label": version.label,
            "arm": version.arm,
            "round": version.round,
            "shared_sha256": version.shared_sha256 or None,
            "site_models": own.get(version.pk, []),
        }
        for version in ModelVersion.objects.filter(run=run).order_by("pk")
    ]


def active_promotions(user: AnyUser) -> list[Promotion]:
    """What serves now at the sites this person may see, with ``report``: the site's own word about it."""
    active = (
        Promotion.objects.for_user(user)
        .filter(withdrawn=None)
        .select_related("site", "study", "by", "site_model__version__run")
        .order_by("study__title", "site__name")
    )
    return [_with_report(promotion) for promotion in active]


def _with_report(promotion: Promotion) -> Promotion:
    reports = promotion.site.heartbeat.get("serving", [])
    mine = [row for row in reports if str(row.get("promotion")) == str(promotion.pk)]
    promotion.report = mine[0] if mine else None  # type: ignore[attr-defined]
    return promotion
