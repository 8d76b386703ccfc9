"""What workers do for runs: prepare, submit, follow. Each may be done twice or be cut off at any instant."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

from celery import shared_task
from django.conf import settings
from django.utils.timezone import now
from django.utils.translation import gettext as _

from fl_jobs.errors import FLJobError
from fl_jobs.packaging.job import write_job
from platform_web.federation.errors import FlareRefusedError, FlareUnavailableError
from platform_web.federation.flare_gateway import gateway
from platform_web.training import services
from platform_web.training.errors import JournalError, RunRequestError, RunStateError
from platform_web.training.models import Run
from platform_web.training.preparing import describe_run
from platform_web.training.services.runs import draft_spec

log = logging.getLogger(__name__)


class Flare(Protocol):
    """The part of the gateway that runs need."""

    def submit(self, folder: Path, token: str) -> str: ...
    def journal(self, job_id: str, since: int) -> tuple[list[dict[str, Any]], int]: ...
    def job_status(self, job_id: str) -> str | None: ...
    def abort(self, job_id: str) -> None: ...


def prepare_run(*, run_id: str) -> None:
    """Fix specification and digest of a run, or end it with the sentence that says why not."""
    run = Run.objects.select_related("study").get(pk=run_id)
    if run.state != Run.State.PREPARING or run.spec is not None:
        return
    try:
        spec = describe_run(draft_spec(run))
    except RunRequestError as error:
        services.fail_run(run_id=run_id, sentence=str(error))
    else:
        services.record_spec(run_id=run_id, spec=spec)


def submit_run(*, run_id: str) -> None:
    """Write the job folder and hand it to NVFlare. The token lets a second try find the first one's job."""
    submit(run_id, gateway())


def submit(run_id: str, flare: Flare) -> None:
    run = Run.objects.select_related("study", "created_by").get(pk=run_id)
    if run.state != Run.State.PREPARING:
        return
    scratch = Path(tempfile.mkdtemp(prefix="job-", dir=settings.CONSILIUM_HOME))
    try:
        write_job(
            scratch / "job",
            run.run_spec(),
            run_id=str(run.pk),
            epoch=run.epoch,
            start_round=1,
            sites=sorted(run.sites.values_list("name", flat=True)),
            asked_by=run.created_by.get_username(),
        )
        job_id = flare.submit(scratch / "job", f"{run.pk}-{run.epoch}")
    except (FLJobError, FlareRefusedError, RunStateError) as error:
        services.fail_run(run_id=run_id, sentence=str(error))
        return
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not services.record_submitted(run_id=run_id, job_id=job_id):
        flare.abort(job_id)


@shared_task(name="training.follow_runs")
def follow_runs() -> None:
    """Look at every run that is due. A run whose lease another worker holds is left alone."""
    services.fail_abandoned_runs()
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
        except (FlareUnavailableError, FlareRefusedError) as error:  # the other runs go on
            log.warning("run %s is looked at again later: %s", run_id, error)
        finally:
            services.release_run(run_id=run_id)


def follow(run_id: str, flare: Flare) -> None:
    """Copy new journal lines into rows and act on the end of the NVFlare job."""
    run = Run.objects.get(pk=run_id)
    if run.state == Run.State.STOPPING:
        _stop(run, flare)
        return
    try:
        pull_lines(run, flare)
        status = flare.job_status(run.nvflare_job_id)
    except JournalError as error:
        services.fail_run(run_id=run_id, sentence=str(error))
        flare.abort(run.nvflare_job_id)
        return
    if status is None:
        services.fail_run(
            run_id=run_id,
            sentence=_("The NVFlare server does not know this run's job any more. Start the run again."),
        )
    elif has_ended(status):
        services.begin_collection(run_id=run_id, job_status=status)


def pull_lines(run: Run, flare: Flare) -> None:
    """A job that does not run (yet, or any more) has no journal to ask for; its status decides."""
    since = run.journal_position
    try:
        lines, _next = flare.journal(run.nvflare_job_id, since)
    except FlareRefusedError:
        return
    for offset, line in enumerate(lines):
        if not services.apply_line(run_id=str(run.pk), position=since + offset, line=line):
            return


def has_ended(status: str) -> bool:
    """Whether NVFlare (or our MarkAbandoned) has closed the job; not whether it went well."""
    return status.upper().startswith(("FINISHED", "ABANDONED", "FAILED"))


def _stop(run: Run, flare: Flare) -> None:
    try:
        flare.abort(run.nvflare_job_id)
    except FlareRefusedError as error:
        log.info("run %s: NVFlare refused to abort (%s); it has probably ended", run.pk, error)
    services.record_stopped(run_id=str(run.pk))
