"""Where the model comes from: provenance, bill of materials, the sites' signed approvals."""

from importlib.metadata import version as installed_version
from typing import Any

from django.conf import settings

from compliance.evidence.archive import json_bytes
from compliance.evidence.cards import ModelCard
from compliance.evidence.sbom import Model, installed_components, sbom_bytes
from compliance.evidence.statement import (
    BuildDefinition,
    Builder,
    BuildMetadata,
    Provenance,
    Resource,
    RunDetails,
    Statement,
)
from fl_jobs.packaging.spec import canonical_json
from platform_web.federation.models import Certificate, Dataset
from platform_web.registry.evidence.case import Case
from platform_web.training.models import Round

TASKS = {
    "tabular": "classification of rows",
    "image": "classification of images",
    "text": "classification of texts",
}


def spec_bytes(case: Case) -> bytes:
    """The specification as stored: its SHA-256 is the run digest while it is sealed."""
    return case.spec.canonical() if case.spec is not None else canonical_json(case.run.spec)


def approval_files(case: Case) -> dict[str, bytes]:
    """Statement, signature and certificate of each site: enough to verify it without the portal."""
    files = {}
    for name, row in case.approvals.items():
        held = Certificate.objects.filter(site=row.site, serial=row.serial).first()
        files[f"approvals/{name}.json"] = json_bytes(
            {
                "statement": row.statement,
                "signature": row.signature,
                "algorithm": "RSASSA-PSS with SHA-256 and a salt of 32 bytes, over the statement's bytes",
                "certificate_pem": held.pem if held else None,
            }
        )
    return files


def provenance(case: Case) -> Statement:
    """Subject: the shared part, or the personal ones of an arm that shares nothing."""
    run, version = case.run, case.version
    return Statement(
        subject=_subject(case),
        predicate=Provenance(
            build_definition=BuildDefinition(
                external_parameters={"runDigest": run.run_digest, "specification": run.spec},
                internal_parameters={"arm": version.arm, "round": version.round},
                resolved_dependencies=[*_software(), *_data(case), *_policies(case)],
            ),
            run_details=RunDetails(
                builder=Builder(
                    id=f"urn:consilium:federation:{settings.CONSILIUM_FEDERATION}",
                    version={name: installed_version(name) for name in ("consilium", "nvflare")},
                ),
                metadata=BuildMetadata(
                    invocation_id=str(run.pk),
                    started_on=run.created.isoformat(timespec="seconds"),
                    finished_on=run.ended.isoformat(timespec="seconds") if run.ended else None,
                ),
                byproducts=[_aggregate(row) for row in case.rounds],
            ),
        ),
    )


def bill_of_materials(case: Case, card: ModelCard) -> bytes:
    """What is installed at the portal now, and the model with its card."""
    model = Model(
        name=case.version.label,
        version=f"{case.run.pk}/{case.version.arm}",
        sha256=case.version.shared_sha256,
        card=_cyclonedx_card(case, card),
    )
    return sbom_bytes(model, installed_components(), case.moment)


def _subject(case: Case) -> list[Resource]:
    shared = case.version.shared_sha256
    if shared:
        return [Resource(name=case.version.label, digest={"sha256": shared})]
    return [
        Resource(name=f"{case.version.label} @ {model.site.name}", digest={"sha256": model.personal_sha256})
        for model in case.site_models
    ]


def _software() -> list[Resource]:
    return [Resource(name=f"pkg:pypi/{name}@{installed_version(name)}") for name in ("consilium", "nvflare")]


def _data(case: Case) -> list[Resource]:
    cards = Dataset.objects.filter(site__in=case.sites, name=case.run.study.dataset).select_related("site")
    return [
        Resource(
            name=f"dataset {card.name} at {card.site.name}",
            digest={"sha256": card.digest},
            annotations={"reported": card.reported_at.isoformat(timespec="seconds")},
        )
        for card in cards.order_by("site__name")
    ]


def _policies(case: Case) -> list[Resource]:
    return [
        Resource(name=f"policy of {name}", digest={"sha256": row.policy_digest})
        for name, row in case.approvals.items()
        if row.policy_digest
    ]


def _aggregate(row: Round) -> Resource:
    """One committed round. Only of these the digests are in the log, hence their names."""
    return Resource(
        name=f"round {row.number}",
        annotations={"aggregateSha256": row.aggregate_sha256, "masking": row.masking, "epoch": row.epoch},
    )


def _cyclonedx_card(case: Case, card: ModelCard) -> dict[str, Any]:
    kind = case.spec.study.task.kind if case.spec else ""
    measured = [
        {"type": name, "value": f"{value:.4f}", "slice": "all sites, test parts"}
        for name, value in sorted((card.all_sites.value or {}).items())
        if isinstance(value, int | float)
    ]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": TASKS.get(kind, "classification"),
            "architectureFamily": case.run.algorithm,
            "modelArchitecture": case.run.model,
            "datasets": [
                {"type": "dataset", "name": f"{case.run.study.dataset} at {site.name}"} for site in case.sites
            ],
            "inputs": [{"format": kind or "unknown"}],
            "outputs": [{"format": "probabilities of the labels"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": measured},
        "considerations": {
            "useCases": [str(card.intended_use.value)],
            "technicalLimitations": [str(one.value) for one in card.limitations],
        },
    }
