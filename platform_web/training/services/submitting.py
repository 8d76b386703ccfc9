"""From a request to an NVFlare job: specification and digest, what each job is to be, and its id."""

from django.db import transaction
from django.db.models import Q
from django.utils.timezone import now

from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec
from platform_web.audit import services as audit
from platform_web.federation.models import Dataset
from platform_web.outbox import services as outbox
from platform_web.training.models import Run, RunApproval, RunJob
from platform_web.training.services.runs import lock_run

State = Run.State
WEIGHTS = (2**10, 2**24)  # bounds of PolicySpec.weight_max


def draft_spec(run: Run) -> RunSpec:
    """The specification without its tensor list; ``fl_jobs.describe`` reads it."""
    study = run.study
    return RunSpec(
        study=StudySpec(
            slug=study.slug,
            purpose=study.purpose,
            dataset=study.dataset,
            task=study.task_spec(),
            teaching=study.teaching,
        ),
        algorithm=run.algorithm,
        hyper_parameters=run.hyper_parameters,
        model=ModelSpec(name=run.model, arguments=run.model_arguments),
        rounds=run.rounds,
        seed=run.seed,
        min_sites=run.min_sites,
        policy=PolicySpec(
            secure_aggregation=not run.server_sees_updates,
            # under privacy every site weighs the same, and its number of cases stays out of the specification
            weight_max=_weight_max(run) if run.privacy is None else WEIGHTS[0],
            privacy=run.privacy_spec(),
        ),
        analysis=run.analysis_spec(),
    )


def _weight_max(run: Run) -> int:
    """A power of two that no site's number of training rows exceeds; masks are sized by it."""
    cards = Dataset.objects.filter(site__in=run.sites.all(), name=run.study.dataset)
    most = max((int(card.parts.get("train", card.rows)) for card in cards), default=0)
    least, limit = WEIGHTS
    return min(limit, max(least, 1 << max(most - 1, 0).bit_length()))


@transaction.atomic
def record_spec(*, run_id: str, spec: RunSpec) -> None:
    """Fix a run's specification and digest and ask its sites. Done twice it changes nothing."""
    run = lock_run(run_id)
    if run.state != State.PREPARING or run.spec is not None:
        return
    run.spec = spec.model_dump(mode="json")
    run.run_digest = spec.digest()
    run.state, run.next_poll_at = State.APPROVING, now()
    run.save(update_fields=["spec", "run_digest", "state", "next_poll_at"])
    RunApproval.objects.bulk_create(RunApproval(run=run, site=site) for site in run.sites.order_by("name"))
    audit.record(
        act="run.prepared",
        actor_type="system",
        obj=[("run_spec", str(run.pk), run.run_digest)],
        run=str(run.pk),
        data={"tensors": len(spec.tensors)},
    )


def promise_job(run: Run) -> RunJob:
    """Fix what the job of the run's present epoch is to be and promise to submit it. Within a transaction."""
    job = RunJob.objects.create(
        run=run,
        epoch=run.epoch,
        start_round=min(run.next_round(), run.rounds + 1),
        sites=list(run.working_sites().values_list("name", flat=True)),
    )
    outbox.enqueue("training.submit_run", run_id=str(run.pk), epoch=run.epoch)
    return job


def note_handing_over(*, job: RunJob) -> None:
    """From now on NVFlare may hold this job, whether or not its id reaches us."""
    RunJob.objects.filter(pk=job.pk, handed_over=None).update(handed_over=now())


@transaction.atomic
def record_submitted(*, run_id: str, epoch: int, job_id: str) -> bool:
    """Note the NVFlare job of an epoch. False when nobody follows it any more: the job must be aborted."""
    run = lock_run(run_id)
    if run.state != State.PREPARING or run.epoch != epoch:
        RunJob.objects.filter(run=run, epoch=epoch, job_id="").update(job_id=job_id)
        known = run.epoch == epoch and run.nvflare_job_id == job_id
        return known and run.state not in {State.STOPPED, State.FAILED}
    moment = now()
    run.state, run.nvflare_job_id, run.next_poll_at = State.SUBMITTED, job_id, moment
    run.last_heard = run.silent_since = run.interruption = run.interrupted_at = None
    run.error, run.lost = "", {}
    run.save()
    RunJob.objects.filter(Q(handed_over=None), run=run, epoch=epoch).update(handed_over=moment)
    RunJob.objects.filter(run=run, epoch=epoch).update(job_id=job_id, submitted=moment)
    audit.record(
        act="run.submitted",
        actor_type="system",
        obj=[("run_spec", str(run.pk), run.run_digest)],
        run=str(run.pk),
        data={"job": job_id, "epoch": epoch},
    )
    return True
