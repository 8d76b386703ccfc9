"""Starting and ending runs."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.timezone import now
from django.utils.translation import gettext as _

from fl_jobs.packaging.spec import COHORT_MIN, AnalysisSpec, HyperValue, PrivacySpec
from platform_web.audit import services as audit
from platform_web.federation.models import Dataset, Site
from platform_web.outbox import services as outbox
from platform_web.training.errors import RunRequestError, RunStateError
from platform_web.training.interruptions import DOUBTFUL
from platform_web.training.models import Run, RunJob, Study

State = Run.State


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a data scientist asks for; hyper-parameters are already those of the catalog."""

    algorithm: str
    hyper_parameters: dict[str, HyperValue]
    model: str
    rounds: int
    seed: int
    min_sites: int
    sites: list[str]
    model_arguments: dict[str, HyperValue] = field(default_factory=dict)
    server_sees_updates: bool = False
    privacy: PrivacySpec | None = None
    analysis: AnalysisSpec = field(default_factory=AnalysisSpec)


@transaction.atomic
def start_run(*, actor: User, study: Study, request: RunRequest) -> Run:
    """Start a run on the named sites and promise its preparation.

    Raises RunRequestError, with a sentence naming the site, when a site is unknown, offline or lacks the
    study's data, or when there are fewer sites than the run's minimum or than masks need; nothing has
    changed then.
    """
    _check_masks(request)
    sites = _usable_sites(study, request)
    run = Run(
        study=study,
        algorithm=request.algorithm,
        hyper_parameters=request.hyper_parameters,
        model=request.model,
        model_arguments=request.model_arguments,
        rounds=request.rounds,
        seed=request.seed,
        min_sites=request.min_sites,
        server_sees_updates=request.server_sees_updates,
        privacy=None if request.privacy is None else request.privacy.model_dump(mode="json"),
        analysis=request.analysis.model_dump(mode="json"),
        created_by=actor,
    )
    run.save(force_insert=True)
    run.sites.set(sites)
    audit.record(
        act="run.started",
        actor=actor,
        obj=[("study", study.slug, "")],
        run=str(run.pk),
        data={"algorithm": run.algorithm, "rounds": run.rounds, "sites": len(sites)},
    )
    outbox.enqueue("training.prepare_run", run_id=str(run.pk))
    return run


def _check_masks(request: RunRequest) -> None:
    """With two sites under masks each subtracts its own update from the sum and has the other's."""
    if not request.server_sees_updates and min(len(set(request.sites)), request.min_sites) < COHORT_MIN:
        raise RunRequestError(
            _(
                "Secure aggregation needs at least %(least)d sites at work. Choose more sites, or let the "
                "server see each site's update."
            )
            % {"least": COHORT_MIN}
        )


def _usable_sites(study: Study, request: RunRequest) -> list[Site]:
    names = sorted(set(request.sites))
    sites = list(Site.objects.filter(name__in=names).order_by("name"))
    if unknown := sorted(set(names) - {site.name for site in sites}):
        raise RunRequestError(
            _("There is no site called “%(name)s”. Choose among the sites of the list.")
            % {"name": unknown[0]}
        )
    if len(sites) < request.min_sites:
        raise RunRequestError(
            _(
                "The run needs at least %(least)d sites, but only %(chosen)d were chosen. Choose "
                "more sites or lower the minimum."
            )
            % {"least": request.min_sites, "chosen": len(sites)}
        )
    moment = now()
    cards = {card.site_id: card for card in Dataset.objects.filter(site__in=sites, name=study.dataset)}
    for site in sites:
        _check_site(site, cards.get(site.pk), study, moment)
    return sites


def _check_site(site: Site, card: Dataset | None, study: Study, moment: datetime) -> None:
    if not site.is_online(moment):
        raise RunRequestError(
            _("%(site)s is not online: %(missing)s Leave it out or bring it online first.")
            % {"site": site.title, "missing": site.missing(moment)}
        )
    if card is None:
        raise RunRequestError(
            _(
                "%(site)s has not registered a data set called “%(dataset)s”. Leave it out or "
                "ask its operator."
            )
            % {"site": site.title, "dataset": study.dataset}
        )
    if card.kind != study.task["kind"] or not set(card.labels) <= set(study.task["labels"]):
        raise RunRequestError(
            _(
                "The data set “%(dataset)s” of %(site)s has another kind or other labels than "
                "the study. Leave the site out or open a study for its data."
            )
            % {"site": site.title, "dataset": study.dataset}
        )


@transaction.atomic
def stop_run(*, run_id: str, actor: User) -> Run:
    """Ask for a run's end. Raises RunStateError when it has ended or its results are being collected."""
    run = lock_run(run_id)
    if run.state == State.STOPPING:
        return run
    if run.is_final or run.state == State.COLLECTING:
        raise RunStateError(
            _("This run is “%(state)s” and cannot be stopped any more.") % {"state": run.get_state_display()}
        )
    if run.state in {State.PREPARING, State.APPROVING, State.RESUMING} and not _may_have_a_job(run):
        run.state, run.ended = State.STOPPED, now()
    else:
        run.state, run.next_poll_at = State.STOPPING, now()
    run.save(update_fields=["state", "ended", "next_poll_at"])
    audit.record(
        act="run.stop_asked", actor=actor, run=str(run.pk), obj=[("run", str(run.pk), run.run_digest)]
    )
    return run


def _may_have_a_job(run: Run) -> bool:
    """Whether NVFlare may still hold a job of a run that waits: nobody heard how the last one ended."""
    last = RunJob.objects.filter(run=run).exclude(job_id="").order_by("-epoch").first()
    return run.state == State.RESUMING and last is not None and last.code in DOUBTFUL


@transaction.atomic
def record_stopped(*, run_id: str) -> None:
    """The NVFlare job of a stopping run has ended. Committed rounds stay."""
    run = lock_run(run_id)
    if run.state != State.STOPPING:
        return
    _end(run, State.STOPPED, "")
    audit.record(
        act="run.stopped",
        actor_type="system",
        run=str(run.pk),
        obj=[("run", str(run.pk), run.run_digest)],
        data={"rounds": run.committed_rounds.count()},
    )


@transaction.atomic
def fail_run(*, run_id: str, sentence: str, is_typed: bool = False) -> None:
    """End a run with a sentence for the person who started it. A run that has ended stays as it is.

    ``is_typed``: the sentence holds what people typed, so the log keeps it where it can be erased.
    """
    run = lock_run(run_id)
    if run.is_final:
        return
    _end(run, State.FAILED, sentence[:2000])
    audit.record(
        act="run.failed",
        actor_type="system",
        out="error",
        run=str(run.pk),
        obj=[("run", str(run.pk), run.run_digest)],
        data={"reason": "refused" if is_typed else sentence[:500]},
        body={"reason": sentence[:500]} if is_typed else None,
    )


def _end(run: Run, state: Any, error: str) -> None:
    run.state, run.error, run.ended, run.lease_until = state, error, now(), None
    run.save(update_fields=["state", "error", "ended", "lease_until"])


def lock_run(run_id: str) -> Run:
    """The run, its row locked until the transaction ends."""
    return Run.objects.select_for_update().select_related("study").get(pk=run_id)
