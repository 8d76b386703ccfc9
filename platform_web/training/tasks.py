"""What workers do for runs: prepare, submit, follow. Each may be done twice or be cut off at any instant."""

import logging
import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from celery import shared_task
from django.conf import settings
from django.utils.timezone import now

from fl_jobs.errors import FLJobError
from fl_jobs.packaging.job import write_job
from platform_web.federation.errors import FlareRefusedError, FlareUnavailableError
from platform_web.federation.flare_gateway import gateway
from platform_web.federation.models import Site
from platform_web.training import interruptions, services
from platform_web.training.errors import JournalError, RunRequestError, RunStateError
from platform_web.training.models import Run, RunJob
from platform_web.training.preparing import describe_run
from platform_web.training.requests import check_policies

log = logging.getLogger(__name__)
SILENCE = timedelta(seconds=120)  # of a job that has answered before, or of the whole server
START_UP = timedelta(minutes=15)
LOST_FOR = timedelta(seconds=5)  # a heartbeat this long after the loss proves that the site is back
JOB_AGE = timedelta(seconds=20)


class Flare(Protocol):
    """The part of the gateway that runs need."""

    def submit(self, folder: Path, token: str) -> str: ...
    def journal(self, job_id: str, since: int) -> tuple[list[dict[str, Any]], int]: ...
    def job_status(self, job_id: str) -> str | None: ...
    def abort(self, job_id: str) -> None: ...
    def refused_at(self, job_id: str) -> dict[str, str]: ...
    def end_at_boundary(self, job_id: str, reason: str) -> None: ...


def prepare_run(*, run_id: str) -> None:
    """Fix specification and digest of a run, or end it with the sentence that says why not."""
    run = Run.objects.select_related("study").get(pk=run_id)
    if run.state != Run.State.PREPARING or run.spec is not None:
        return
    try:
        spec = describe_run(services.draft_spec(run))
        check_policies(run.study, spec)
    except RunRequestError as error:
        services.fail_run(run_id=run_id, sentence=str(error))
    else:
        services.record_spec(run_id=run_id, spec=spec)


def submit_run(*, run_id: str, epoch: int = 1) -> None:
    """Write the job folder and hand it to NVFlare. The token lets a second try find the first one's job."""
    submit(run_id, epoch, gateway())


def submit(run_id: str, epoch: int, flare: Flare) -> None:
    """A run that was stopped while a worker handed its job over gets that job aborted, not forgotten."""
    run = Run.objects.select_related("study", "created_by").get(pk=run_id)
    job = RunJob.objects.filter(run=run, epoch=epoch).first()
    if job is None or run.epoch != epoch or run.state not in {Run.State.PREPARING, Run.State.STOPPED}:
        return
    _abort_doubtful(run, flare)
    if run.state == Run.State.STOPPED and (job.handed_over is None or job.job_id):
        return
    services.note_handing_over(job=job)
    try:
        job_id = _hand_over(run, job, flare)
    except (FLJobError, RunStateError) as error:
        services.fail_run(run_id=run_id, sentence=str(error))
        return
    except FlareRefusedError as error:
        _refused(run, str(error))
        return
    if not services.record_submitted(run_id=run_id, epoch=epoch, job_id=job_id):
        _abort(job_id, flare)


def _hand_over(run: Run, job: RunJob, flare: Flare) -> str:
    scratch = Path(tempfile.mkdtemp(prefix="job-", dir=settings.CONSILIUM_HOME))
    try:
        write_job(
            scratch / "job",
            run.run_spec(),
            run_id=str(run.pk),
            epoch=job.epoch,
            start_round=job.start_round,
            sites=job.sites,
            asked_by=run.created_by.get_username(),
        )
        return flare.submit(scratch / "job", f"{run.pk}-{job.epoch}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refused(run: Run, sentence: str) -> None:
    """The first job's refusal is for the person to read; a later one's may pass."""
    if run.epoch == 1:
        services.fail_run(run_id=str(run.pk), sentence=sentence)
        return
    services.interrupt_run(run_id=str(run.pk), epoch=run.epoch, code=interruptions.NO_JOB, error=sentence)


def _abort_doubtful(run: Run, flare: Flare) -> None:
    """Nobody heard how the job before ended: two jobs of one run must not train side by side."""
    before = RunJob.objects.filter(run=run, epoch__lt=run.epoch).exclude(job_id="").order_by("-epoch").first()
    if before and before.code in interruptions.DOUBTFUL:
        _abort(before.job_id, flare)


def _abort(job_id: str, flare: Flare) -> None:
    try:
        flare.abort(job_id)
    except FlareRefusedError as error:
        log.info("NVFlare refused to abort %s (%s); it has probably ended", job_id, error)


@shared_task(name="training.follow_runs")
def follow_runs() -> None:
    """Look at every run that is due. A run whose lease another worker holds is left alone."""
    services.take_up_failed_work()
    due = services.lease_due_runs(moment=now())
    if not due:
        return
    flare = gateway()
    follow_all(due, flare)


def follow_all(due: list[str], flare: Flare) -> None:
    """Follow each; a run that the server refuses to speak about does not hold up the others."""
    for run_id in due:
        try:
            follow(run_id, flare)
        except FlareUnavailableError as error:
            log.warning("run %s is looked at again later: %s", run_id, error)
            _watch_server(run_id)
        except FlareRefusedError as error:  # the other runs go on
            log.warning("run %s is looked at again later: %s", run_id, error)
        finally:
            services.release_run(run_id=run_id)


def _watch_server(run_id: str) -> None:
    """A server that is silent for long has no job of ours that anybody could follow."""
    run = Run.objects.get(pk=run_id)
    if run.silent_since is None or now() - run.silent_since <= SILENCE:
        services.note_silence(run_id=run_id, epoch=run.epoch)
    elif run.state in {Run.State.SUBMITTED, Run.State.RUNNING}:
        services.interrupt_run(run_id=run_id, epoch=run.epoch, code=interruptions.SERVER_SILENT)


def follow(run_id: str, flare: Flare) -> None:
    """Copy new journal lines into rows and act on what has become of the NVFlare job."""
    run = Run.objects.get(pk=run_id)
    if run.state == Run.State.APPROVING:
        services.settle_approvals(run_id=run_id)
    elif refusal := services.refusal_of(run):
        _end_refused(run, refusal, flare)
    elif run.state == Run.State.RESUMING:
        services.resume_run(run_id=run_id, moment=now())
    elif run.state == Run.State.STOPPING:
        _abort(run.nvflare_job_id, flare)
        services.record_stopped(run_id=run_id)
    elif run.state in {Run.State.SUBMITTED, Run.State.RUNNING}:
        _follow_job(run, flare)


def _end_refused(run: Run, sentence: str, flare: Flare) -> None:
    """At once: nobody waits for processes that will not start. The job ends first; that may be repeated."""
    if run.state != Run.State.RESUMING:
        _abort(run.nvflare_job_id, flare)
    services.fail_run(run_id=str(run.pk), sentence=sentence, is_typed=True)


def _refused_deployment(run: Run, status: str, flare: Flare) -> str:
    """Who refused a job that NVFlare could not deploy to enough sites; empty when that is not why."""
    if "FAILED_TO_RUN" not in status.upper():
        return ""
    try:
        return services.refusal_of(run, flare.refused_at(run.nvflare_job_id))
    except FlareRefusedError:
        return ""


def _follow_job(run: Run, flare: Flare) -> None:
    try:
        heard = pull_lines(run, flare)
    except JournalError as error:
        services.fail_run(run_id=str(run.pk), sentence=str(error))
        _abort(run.nvflare_job_id, flare)
        return
    status = flare.job_status(run.nvflare_job_id)
    run.refresh_from_db()
    if status is None:
        _interrupt(run, interruptions.JOB_UNKNOWN)
    elif has_ended(status):
        _end_job(run, status, flare)
    elif heard:
        _call_back_lost_sites(run, flare)
    else:
        _watch_job(run, flare)


def pull_lines(run: Run, flare: Flare) -> bool:
    """Whether the job answered. One that does not run (yet, or any more) does not; its status decides."""
    since = run.journal_position
    try:
        lines, _next = flare.journal(run.nvflare_job_id, since)
    except FlareRefusedError:
        return False
    services.note_heard(run_id=str(run.pk), epoch=run.epoch)
    for offset, line in enumerate(lines):
        if not services.apply_line(run_id=str(run.pk), position=since + offset, line=line):
            break
    return True


def has_ended(status: str) -> bool:
    """Whether NVFlare (or our MarkAbandoned) has closed the job; not whether it went well."""
    return status.upper().startswith(("FINISHED", "ABANDONED", "FAILED"))


def _end_job(run: Run, status: str, flare: Flare) -> None:
    """The journal decides. What it has said already needs no download; an abandoned job has none."""
    if run.error and run.finish is None:
        services.fail_run(run_id=str(run.pk), sentence=run.error)
    elif refusal := _refused_deployment(run, status, flare):
        services.fail_run(run_id=str(run.pk), sentence=refusal, is_typed=True)
    elif "ABANDONED" in status.upper():
        _interrupt(run, interruptions.SERVER_DIED)
    elif run.interruption and run.finish is None:
        _interrupt(run, interruptions.JOB_ENDED)
    else:
        services.begin_collection(run_id=str(run.pk), job_status=status)


def _interrupt(run: Run, code: str) -> None:
    """``code`` unless the job itself said why it ended."""
    said = run.interruption or {}
    services.interrupt_run(
        run_id=str(run.pk),
        epoch=run.epoch,
        code=said.get("code") or code,
        error=said.get("error", ""),
        missing=said.get("missing", ()),
    )


def _watch_job(run: Run, flare: Flare) -> None:
    """NVFlare says that the job goes on, but nobody answers for it."""
    job = RunJob.objects.get(run=run, epoch=run.epoch)
    if run.last_heard is None:
        services.note_server_answers(run_id=str(run.pk), epoch=run.epoch)
        if job.submitted is None or now() - job.submitted <= START_UP:
            return
        code = interruptions.JOB_UNHEARD
    else:
        services.note_silence(run_id=str(run.pk), epoch=run.epoch)
        if run.silent_since is None or now() - run.silent_since <= SILENCE:
            return
        code = interruptions.JOB_SILENT
    _abort(run.nvflare_job_id, flare)
    _interrupt(run, code)


def _call_back_lost_sites(run: Run, flare: Flare) -> None:
    """A site that restarts is out for the rest of an NVFlare job: end the job when it pays, once per job."""
    jobs = list(RunJob.objects.filter(run=run, epoch__lte=run.epoch).order_by("epoch"))
    if not run.lost or jobs[-1].rejoin is not None or run.rounds - run.next_round() + 1 < 2:
        return
    moment = now()
    age = moment - (jobs[-1].submitted or moment)
    back = [
        site.name
        for site in run.sites.filter(name__in=run.lost).order_by("name")
        if _is_back(site, run.lost, moment) and age >= _worth_waiting(site, jobs)
    ]
    if back:
        flare.end_at_boundary(run.nvflare_job_id, f"{', '.join(back)} came back and joins in the next job.")
        services.note_rejoin_asked(run_id=str(run.pk), epoch=run.epoch, sites=back)


def _worth_waiting(site: Site, jobs: list[RunJob]) -> timedelta:
    """A site that is lost again and again does not end every job at once: 20, 20, 40, 80 … 320 s."""
    before = sum(site.name in (job.rejoin or ()) for job in jobs)
    return JOB_AGE * int(2 ** min(max(before - 1, 0), 4))


def _is_back(site: Site, lost: dict[str, str], moment: datetime) -> bool:
    since = datetime.fromisoformat(lost[site.name])
    return site.is_online(moment) and site.heartbeat_at is not None and site.heartbeat_at >= since + LOST_FOR
