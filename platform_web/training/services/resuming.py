"""A run outlives its NVFlare jobs: what interrupted it, when it may go on, and the next job.

Nothing here speaks to NVFlare. A run that waits is looked at like every other one, by its row.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.utils.timezone import now

from platform_web.audit import services as audit
from platform_web.outbox.models import Task
from platform_web.training import interruptions
from platform_web.training.models import Run, RunJob
from platform_web.training.services.runs import fail_run, lock_run
from platform_web.training.services.submitting import promise_job

State = Run.State
PATIENCE = timedelta(seconds=60)  # for sites that are not back, when enough others are
PAUSE = timedelta(seconds=5)  # per job that brought nothing, before the next one
GIVE_UP = timedelta(hours=24)
IDLE_JOBS = 5
INTERRUPTIBLE = frozenset({State.SUBMITTED, State.RUNNING, State.COLLECTING, State.PREPARING})


@transaction.atomic
def interrupt_run(
    *, run_id: str, epoch: int, code: str, error: str = "", missing: Iterable[str] = ()
) -> bool:
    """The job of ``epoch`` is over and the run is not: wait to go on, or give up after idle jobs.

    False when the row stands elsewhere by now: somebody else did it, or the run was stopped.
    """
    run = lock_run(run_id)
    if run.epoch != epoch or run.state not in INTERRUPTIBLE:
        return False
    moment, sentence = now(), error or interruptions.in_words(code)
    RunJob.objects.filter(run=run, epoch=epoch).update(ended=moment, code=code, error=sentence[:2000])
    if _idle_jobs(run) >= IDLE_JOBS:
        fail_run(run_id=run_id, sentence=interruptions.given_up_trying(IDLE_JOBS, sentence))
        return True
    run.state, run.lease_until, run.silent_since, run.lost = State.RESUMING, None, None, {}
    run.interrupted_at = run.next_poll_at = moment
    run.interruption = {"code": code, "error": sentence[:2000], "missing": sorted(missing)}
    run.save()
    audit.record(
        act="run.interrupted",
        actor_type="system",
        out="error",
        run=str(run.pk),
        obj=[("run", str(run.pk), run.run_digest)],
        data={"epoch": epoch, "reason": code},
    )
    return True


@transaction.atomic
def resume_run(*, run_id: str, moment: datetime) -> bool:
    """Promise the next job if the run may go on; end it when nobody came back for a day."""
    run = lock_run(run_id)
    if run.state != State.RESUMING:
        return False
    reason = run.interruption or {}
    if moment - (run.interrupted_at or moment) > GIVE_UP:
        fail_run(run_id=run_id, sentence=interruptions.given_up_waiting(str(reason.get("error", ""))))
        return False
    if not may_go_on(run, moment):
        return False
    run.epoch = max(run.epoch, run.journal_epoch) + 1  # the server refuses a lower one than it has seen
    run.state, run.nvflare_job_id = State.PREPARING, ""
    run.save(update_fields=["epoch", "state", "nvflare_job_id"])
    job = promise_job(run)
    audit.record(
        act="run.resumed",
        actor_type="system",
        run=str(run.pk),
        obj=[("run", str(run.pk), run.run_digest)],
        data={"epoch": run.epoch, "start_round": job.start_round, "reason": str(reason.get("code", ""))},
    )
    return True


def may_go_on(run: Run, moment: datetime) -> bool:
    """Whether those are back without whom it makes no sense to go on.

    Only what NVFlare said after the interruption counts: before it, sites of a dead server look alive.
    """
    begun, reason = run.interrupted_at or moment, run.interruption or {}
    sites = list(run.working_sites())
    back = {site.name for site in sites if site.is_online(moment) and (site.flare_seen_at or begun) > begun}
    wanted = {site.name for site in sites}
    if len(back) < run.fewest_sites or moment - begun < PAUSE * max(_idle_jobs(run) - 1, 0):
        return False
    if wanted <= back:
        return True
    if reason.get("code") == interruptions.DIFFERENCING:
        return bool(reason.get("missing")) and set(reason["missing"]) <= back
    if reason.get("code") == interruptions.REJOIN and _returning(run) & wanted <= back:
        return True
    return moment - begun >= PATIENCE


def _returning(run: Run) -> set[str]:
    """The sites of the last round and those for whose sake the job was ended."""
    job = RunJob.objects.filter(run=run, epoch=run.epoch).first()
    last = run.committed_rounds.order_by("-number").first()
    names = set(last.site_rounds.values_list("site__name", flat=True)) if last else set()
    return names | set((job.rejoin if job else None) or [])


def _idle_jobs(run: Run) -> int:
    """How many of the latest jobs ended without a new committed round."""
    return RunJob.objects.filter(run=run, start_round__gte=min(run.next_round(), run.rounds + 1)).count()


@transaction.atomic
def note_rejoin_asked(*, run_id: str, epoch: int, sites: list[str]) -> None:
    """The job was asked to end at the next boundary because ``sites`` are back; once per job."""
    run = lock_run(run_id)
    not_asked_yet = RunJob.objects.filter(run=run, epoch=epoch, rejoin__isnull=True)
    if run.epoch != epoch or not not_asked_yet.update(rejoin=sites):
        return
    audit.record(
        act="run.rejoin_asked",
        actor_type="system",
        run=str(run.pk),
        obj=[("run", str(run.pk), run.run_digest)],
        data={"epoch": epoch, "sites": len(sites)},
    )


def take_up_failed_work() -> int:
    """Runs whose promised work has failed for good: what can be tried again waits to go on, the rest ends."""
    waiting = Run.objects.filter(state__in=[State.PREPARING, State.COLLECTING])
    taken = 0
    for run in waiting:
        failed = _failed_task(run)
        if failed is None:
            continue
        if run.state == State.COLLECTING or run.epoch > 1:
            code = interruptions.NO_RESULT if run.state == State.COLLECTING else interruptions.NO_JOB
            interrupt_run(run_id=str(run.pk), epoch=run.epoch, code=code, error=failed.last_error)
        else:
            fail_run(run_id=str(run.pk), sentence=failed.last_error)
        taken += 1
    return taken


def _failed_task(run: Run) -> Task | None:
    """The promise of the step the run stands at; those of earlier jobs do not count."""
    tasks = Task.objects.filter(failed__isnull=False, arguments__run_id=str(run.pk))
    if run.spec is None:
        return tasks.filter(name="training.prepare_run").first()
    name = "registry.collect_run" if run.state == State.COLLECTING else "training.submit_run"
    return tasks.filter(name=name, arguments__epoch=run.epoch).first()
