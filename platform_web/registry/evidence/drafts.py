"""Drafts for the data protection officer: what the portal knows is filled in, the rest is left open."""

from collections.abc import Iterable

from compliance.evidence.cards import Datum, ImpactDraft, Measure, ProcessingDraft, Risk
from platform_web.federation.models import Site
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.control import Claim
from platform_web.registry.evidence.documents import NOT_SAID

OPEN = Datum(value=None, source=NOT_SAID)
CONTROLS = "controls.json"


def impact_draft(case: Case, claims: list[Claim]) -> ImpactDraft:
    """Every threat that a control answers, with all the controls that do and whether they hold."""
    spec = case.spec
    threats = sorted(
        {one for claim in claims for one in claim.control.answers if one[0] in "TF" and one[1:].isdigit()}
    )
    return ImpactDraft(
        purpose=Datum(value=case.run.study.purpose, source="run-spec.json"),
        necessity=OPEN,
        data=Datum(
            value={"kind": spec.study.task.kind, "features": list(spec.study.task.features)}
            if spec
            else None,
            source="run-spec.json",
        ),
        risks=[
            Risk(threat=threat, measures=_measures(one for one in claims if threat in one.control.answers))
            for threat in sorted(threats, key=lambda name: (name[0], int(name[1:])))
        ],
        residual_risk=Datum(
            value=[claim.control.name for claim in claims if not claim.holds], source=CONTROLS
        ),
        signed_off_by=OPEN,
    )


def processing_drafts(case: Case, claims: list[Claim]) -> dict[str, ProcessingDraft]:
    """Site → its draft: each institution is the controller of its own data."""
    return {site.name: _processing(case, site, claims) for site in case.sites}


def _processing(case: Case, site: Site, claims: list[Claim]) -> ProcessingDraft:
    spec = case.spec
    tensors = [tensor.wire_name for tensor in spec.tensors] if spec else None
    return ProcessingDraft(
        controller=Datum(value=site.organisation, source="the portal's list of sites"),
        contact=OPEN,
        purposes=Datum(value=case.run.study.purpose, source="run-spec.json"),
        data_subjects=OPEN,
        data=Datum(value=f"datasheets/{site.name}.json", source="data sheet"),
        recipients=Datum(
            value={"portal": tensors}, source="run-spec.json, tensors; control secure_aggregation"
        ),
        transfers=OPEN,
        retention=OPEN,
        measures=_measures(claims),
    )


def _measures(claims: Iterable[Claim]) -> list[Measure]:
    return [Measure(control=claim.control.name, holds=claim.holds) for claim in claims]
