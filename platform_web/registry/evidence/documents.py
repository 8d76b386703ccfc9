"""Model card and data sheets: what is stored, each with its source; a sentence only where a datum decides."""

from typing import Any

from django.utils.translation import gettext as _

from compliance.evidence.cards import DataSheet, Datum, ModelCard, SiteFigures, in_steps
from platform_web.federation.models import Dataset, Site
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.control import Claim
from platform_web.registry.models import Promotion, SiteModel
from platform_web.registry.selectors import cohort_cells

NOT_SAID = "nobody has said it; the institution fills it in"


def model_card(case: Case, claims: dict[str, Claim]) -> ModelCard:
    """``claims`` by control: what the card says of privacy it takes from there."""
    version, run = case.version, case.run
    spec = f"run-spec.json, SHA-256 {run.run_digest}"
    row = f"model version {version.pk} in the portal"
    asked = run.spec or {}
    return ModelCard(
        label=Datum(value=version.label, source=row),
        arm=Datum(value=version.arm, source=row),
        chosen_round=Datum(value=version.round, source="finish line of the run's journal"),
        shared_sha256=Datum(value=version.shared_sha256 or None, source="finish line of the run's journal"),
        run_digest=Datum(value=run.run_digest, source="run-spec.json"),
        intended_use=Datum(value=run.study.purpose, source=spec),
        labels=Datum(value=asked.get("study", {}).get("task", {}).get("labels"), source=spec),
        algorithm=Datum(value=run.algorithm, source=spec),
        hyper_parameters=Datum(value=run.hyper_parameters, source=spec),
        architecture=Datum(value={"name": run.model, "arguments": run.model_arguments}, source=spec),
        analysis=Datum(value=asked.get("analysis"), source=spec),
        sites=[_site_figures(model) for model in case.site_models],
        all_sites=Datum(value=_all_sites(case), source="masked sums in the finish line of the run's journal"),
        privacy=Datum(
            value=claims["differential_privacy"].sentence,
            source="control differential_privacy in controls.json",
        ),
        subgroups=Datum(value=None, source="no figures per subgroup are measured"),
        limitations=_limitations(case),
        human_oversight=Datum(
            value=_promotions(case), source="promotions in the portal, each with its audit entry"
        ),
    )


def data_sheets(case: Case) -> dict[str, DataSheet]:
    """Site → what it says of the data set of the run's study."""
    name = case.run.study.dataset
    cards = {card.site_id: card for card in Dataset.objects.filter(site__in=case.sites, name=name)}
    return {site.name: _data_sheet(case, site, cards.get(site.pk)) for site in case.sites}


def _site_figures(model: SiteModel) -> SiteFigures:
    return SiteFigures(
        site=model.site.name,
        personal_sha256=model.personal_sha256,
        training_rows=in_steps(int(model.rows["train"])) if "train" in model.rows else "",
        figures=model.cells,
        difference_to_local=model.difference,
        source="the site's report in the finish line of the run's journal",
    )


def _all_sites(case: Case) -> dict[str, Any]:
    return next((cells for arm, cells in cohort_cells(case.run) if arm == case.version.arm), {})


def _limitations(case: Case) -> list[Datum]:
    """A sentence for each datum that limits what the figures say."""
    found, study = [], case.run.study
    if study.teaching:
        text = _("The study is for teaching: its figures say nothing about patients.")
        found.append(Datum(value=text, source="study, field teaching"))
    if study.holds_synthetic_data:
        text = _("Some of the data are synthetic: no real person's.")
        found.append(Datum(value=text, source="data sets, field synthetic"))
    if kept := [model.site.name for model in case.site_models if model.cells is None]:
        text = _("These sites keep their figures: %(sites)s.") % {"sites": ", ".join(kept)}
        found.append(Datum(value=text, source="site models, field cells"))
    untested = [m.site.name for m in case.site_models if _verdict(m) == "cannot be tested here"]
    if untested:
        text = _("Too few cases to test a benefit at: %(sites)s.") % {"sites": ", ".join(untested)}
        found.append(Datum(value=text, source="site models, field difference"))
    return found


def _verdict(model: SiteModel) -> str:
    return str((model.difference or {}).get("verdict", ""))


def _promotions(case: Case) -> list[dict[str, Any]]:
    """Who let it serve where: people by their number, as in the log."""
    rows = Promotion.objects.filter(site_model__version=case.version).select_related("site").order_by("pk")
    return [
        {
            "site": row.site.name,
            "by": f"user:{row.by_id}",
            "reason": row.reason,
            "from": row.created.isoformat(timespec="seconds"),
            "withdrawn": row.withdrawn.isoformat(timespec="seconds") if row.withdrawn else None,
        }
        for row in rows
    ]


def _data_sheet(case: Case, site: Site, card: Dataset | None) -> DataSheet:
    reported = f"report of the site, received {card.reported_at:%Y-%m-%dT%H:%M:%SZ}" if card else NOT_SAID
    counts = {label: in_steps(int(count)) for label, count in card.label_counts.items()} if card else None
    approval = case.approvals.get(site.name)
    return DataSheet(
        site=Datum(value=site.name, source="the portal's list of sites"),
        organisation=Datum(value=site.organisation, source="the portal's list of sites"),
        dataset=Datum(value=case.run.study.dataset, source="run-spec.json"),
        digest=Datum(value=card.digest if card else None, source=reported),
        kind=Datum(value=card.kind if card else None, source=reported),
        rows=Datum(value=in_steps(card.rows) if card else None, source=reported),
        rows_per_label=Datum(value=counts, source=reported),
        synthetic=Datum(value=card.synthetic if card else None, source=reported),
        certificate_serial=Datum(
            value=approval.serial if approval else None, source=f"approvals/{site.name}.json"
        ),
        collection_purpose=Datum(value=None, source=NOT_SAID),
        legal_basis=Datum(value=None, source=NOT_SAID),
        period=Datum(value=None, source=NOT_SAID),
    )
