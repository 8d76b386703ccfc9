"""Rows as a working portal has them: sites online, a study, a finished run, a running one, promotions."""

import math
from types import SimpleNamespace

from django.utils import timezone

from fl_jobs.packaging.spec import TaskSpec, TensorSpec
from platform_web.federation.models import Dataset, Site
from platform_web.registry import services as registry
from platform_web.registry.models import SiteModel
from platform_web.training import services as training
from platform_web.training.models import Run
from site_kits.decisions import DecisionStatement
from tests.platform_web.finished import ARMS as ARMS
from tests.platform_web.finished import finish_line, sha

FEATURES = (
    "mean_radius",
    "mean_texture",
    "mean_perimeter",
    "mean_area",
    "mean_smoothness",
    "mean_compactness",
    "mean_concavity",
    "mean_concave_points",
    "mean_symmetry",
    "mean_fractal_dimension",
)
TABULAR = TaskSpec(kind="tabular", labels=("benign", "malignant"), features=FEATURES)


def bring_online(site, *, dataset="cytology", rows=142, inference_url=None, kind="tabular"):
    """The site was heard just now and has registered its data."""
    now = timezone.now()
    site.status = Site.Status.ENROLLED
    site.flare_seen_at = site.heartbeat_at = now
    site.inference_url = inference_url or "http://127.0.0.1:9"
    site.heartbeat = {
        "agent_version": "0.1.0",
        "python": "3.11.7",
        "nvflare": "2.9.0",
        "torch": "2.13.0",
        "certificate_days_left": 89,
        "serving": [],
    }
    site.save()
    Dataset.objects.update_or_create(
        site=site,
        name=dataset,
        defaults={
            "kind": kind,
            "digest": sha(f"{site.name}/{dataset}"),
            "labels": ["benign", "malignant"],
            "rows": rows,
            "parts": {"train": rows * 3 // 5, "validation": rows // 5, "test": rows // 5},
            "label_counts": {"benign": rows // 2, "malignant": rows - rows // 2},
            "reported_at": now,
        },
    )
    return site


def open_study(actor, *, slug="breast-cytology", task=TABULAR, teaching=True, dataset="cytology"):
    return training.open_study(
        actor=actor,
        slug=slug,
        title="Breast cytology: benign or malignant",
        purpose="Tell benign from malignant fine-needle aspirates. Teaching data, not for patients.",
        dataset=dataset,
        task=task,
        teaching=teaching,
    )


def request_for(sites, **changes):
    values = {
        "algorithm": "dbe",
        "hyper_parameters": {
            "learning_rate": 0.003,
            "batch_size": 16,
            "local_epochs": 2,
            "kappa": 1.0,
            "offset_rate": 1.0,
        },
        "model": "tabular_mlp",
        "model_arguments": {"hidden": 32, "feature_dim": 16},
        "rounds": 10,
        "seed": 7,
        "min_sites": 2,
        "sites": [site.name for site in sites],
        "server_sees_updates": len(sites) < 3,
        **changes,
    }
    if not values["server_sees_updates"]:
        values["min_sites"] = max(values["min_sites"], 3)
    return training.RunRequest(**values)


def prepared_run(actor, study, sites, **changes):
    """A run that has its digest and waits for a worker to submit it."""
    run = training.start_run(actor=actor, study=study, request=request_for(sites, **changes))
    tensors = tuple(
        TensorSpec(arm=arm, phase="train", name=f"base.{layer}.weight", shape=(32, 10))
        for arm in ("global", "personal")
        for layer in (0, 1)
    )
    training.record_spec(
        run_id=str(run.pk), spec=training.draft_spec(run).model_copy(update={"tensors": tensors})
    )
    return approve(run)


def asked_run(actor, study, sites, **changes):
    """A run that has its digest and waits for its sites."""
    run = training.start_run(actor=actor, study=study, request=request_for(sites, **changes))
    training.record_spec(run_id=str(run.pk), spec=training.draft_spec(run))
    return Run.objects.get(pk=run.pk)


def statement(run, site, *, approve=True, **more):
    """What a site's agent signs."""
    facts = {
        "site": site.name,
        "run_id": str(run.pk),
        "run_digest": run.run_digest,
        "approve": approve,
        "by": "rule",
        "policy_digest": sha("policy"),
        "decided_at": "2026-12-01T00:00:00.000+00:00",
        **more,
    }
    return DecisionStatement(**facts)


def approve(run, sites=None):
    """Every site (or those named) approves; the run goes on when all have decided."""
    run.refresh_from_db()
    for site in sites or run.sites.all():
        training.record_decision(site=site, statement=statement(run, site), signature="c2ln", serial="1f")
    training.settle_approvals(run_id=str(run.pk))
    return Run.objects.get(pk=run.pk)


def submitted_run(actor, study, sites, **changes):
    """A run whose NVFlare job waits."""
    run = prepared_run(actor, study, sites, **changes)
    training.record_submitted(run_id=str(run.pk), epoch=1, job_id=f"job-{run.pk}-1")
    return Run.objects.get(pk=run.pk)


def masked_lines(sites, rounds, *, epoch=1, **more):
    """The start of a masked job and its rounds; every second round lacks the last site."""
    for number in rounds:
        cohort = sites if number % 2 else sites[:-1]
        recovered = sites[:1] if number % 2 else ()
        yield round_line(
            number, cohort, epoch=epoch, masking=masking(sites, cohort=cohort, recovered=recovered), **more
        )


def round_line(number, sites, *, epoch=1, **more):
    """What the controller writes when round ``number`` is on disk."""
    validated = None
    if number > 1:
        validated = {
            "round": number - 1,
            "cohort": _measured(number - 1, 0.0),
            "site_metrics": {
                name: _measured(number - 1, 0.04 * index) for index, name in enumerate(sorted(sites))
            },
        }
    return {
        "kind": "round",
        "round": number,
        "sites": sorted(sites),
        "cohort": {
            arm: {"train_loss": 0.6 * math.exp(-number / 4)} for arm in ("local", "global", "personal")
        },
        "site_metrics": {name: {"local": {"train_loss": 0.4}} for name in sites},
        "validated": validated,
        "aggregate_sha256": {arm: sha(f"{arm}{number}") for arm in ("global", "personal")},
        "epoch": epoch,
        **more,
    }


def masking(sites, *, cohort=None, recovered=()):
    """What the controller writes of a masked round."""
    cohort = sorted(cohort or sites)
    return {
        "ring": 64,
        "threshold": 3,
        "cohort": cohort,
        "signers": cohort,
        "recovered": list(recovered),
        "clipped": 3,
        "clip_total": 40_000,
        "freeze_hash": sha("freeze"),
        "round_ctx": sha("context"),
        "bytes_per_site": 65_536,
    }


def roster_line(sites, *, epoch=1, pinned=True, **more):
    return {
        "kind": "roster",
        "sites": sorted(sites),
        "verified": dict.fromkeys(sorted(sites), "pinned" if pinned else "ca"),
        "refused": {},
        "threshold": 3,
        "colluding": 0 if len(sites) == 3 else 1,
        "cohort_min": 3,
        "roster_hash": sha("roster"),
        "epoch": epoch,
        **more,
    }


def _measured(number, shift):
    gain = {"local": 0.30, "global": 0.22, "personal": 0.14}
    return {
        arm: {
            "val_loss": round(floor + shift + 0.45 * math.exp(-number / 3), 4),
            "val_accuracy": round(0.98 - floor / 3 - shift / 2 - 0.3 * math.exp(-number / 2.5), 4),
        }
        for arm, floor in gain.items()
    }


def feed(run, lines):
    """Apply journal lines where the row stands."""
    for line in lines:
        run.refresh_from_db()
        assert training.apply_line(run_id=str(run.pk), position=run.journal_position, line=line)
    run.refresh_from_db()
    return run


def completed_run(actor, study, sites, *, keeps=(), cohort=None):
    names = [site.name for site in sites]
    run = submitted_run(actor, study, sites)
    feed(
        run,
        [
            {"kind": "start"},
            *(round_line(number, names) for number in range(1, 11)),
            finish_line(names, keeps=keeps) | {"cohort": cohort or {}},
        ],
    )
    training.begin_collection(run_id=str(run.pk), job_status="FINISHED:COMPLETED")
    registry.register_models(run_id=str(run.pk))
    return Run.objects.get(pk=run.pk)


def build(ann, dana, sites):
    """Everything at once, for pages: a completed run with promotions at all sites, and one that trains."""
    for index, site in enumerate(sites):
        bring_online(site, rows=142 + 3 * index)
    study = open_study(dana)
    done = completed_run(dana, study, sites)
    promotions = []
    for site in sites:
        proposed = SiteModel.objects.get(version__run=done, site=site, proposal=True)
        promotions.append(registry.promote(site_model_id=proposed.pk, actor=ann, reason=""))
    running = submitted_run(dana, study, sites)
    names = [site.name for site in sites]
    feed(running, [{"kind": "start"}, *(round_line(number, names) for number in range(1, 6))])
    return SimpleNamespace(study=study, done=done, running=running, promotions=promotions)
