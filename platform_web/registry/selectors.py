"""Reads of the registry: what a site serves, what it may fetch, and the benefit table."""

from dataclasses import dataclass, field
from typing import Any

from platform_web.accounts.scope import AnyUser
from platform_web.federation.models import Site
from platform_web.registry.models import Arm, ModelVersion, Promotion, SiteModel
from platform_web.training.models import Run


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


@dataclass
class BenefitRow:
    """One site's line of the benefit table; cells in the order local, global, tuned, personal."""

    site: Site
    models: dict[str, SiteModel] = field(default_factory=dict)
    promotion: Promotion | None = None

    @property
    def cells(self) -> list[tuple[Arm, SiteModel | None]]:
        return [(arm, self.models.get(arm)) for arm in Arm]

    @property
    def any_model(self) -> SiteModel:
        return next(iter(self.models.values()))

    @property
    def proposal(self) -> SiteModel | None:
        return next((model for model in self.models.values() if model.proposal), None)

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
    return list(rows.values())
