"""What moves a run in tests: a look of the worker, sites that are seen, time that has passed."""

from datetime import timedelta

from django.utils import timezone

from platform_web.federation.models import Site
from platform_web.training import tasks
from platform_web.training.models import Run

NAMES = ["site-a", "site-b", "site-c", "site-d"]


def seen(*names):
    """These sites were heard just now by NVFlare and by the portal."""
    moment = timezone.now()
    Site.objects.filter(name__in=names or NAMES).update(flare_seen_at=moment, heartbeat_at=moment)


def later(run, seconds, *names):
    """As if the interruption had been ``seconds`` ago, and only these sites had been seen since."""
    run.refresh_from_db()
    Run.objects.filter(pk=run.pk).update(interrupted_at=run.interrupted_at - timedelta(seconds=seconds))
    Site.objects.update(flare_seen_at=run.created - timedelta(days=2))
    seen(*names or ("nobody",))


def look(run, flare):
    tasks.follow_all([str(run.pk)], flare)
    run.refresh_from_db()
    return run.state


def interrupted(run, flare, code="TOO_FEW", **more):
    """The controller ended the job at a boundary, and NVFlare says so."""
    flare.lines.append({"kind": "interrupted", "code": code, "error": "Why.", "epoch": run.epoch, **more})
    assert look(run, flare) == Run.State.RUNNING
    flare.statuses[run.nvflare_job_id] = "FINISHED:COMPLETED"
    assert look(run, flare) == Run.State.RESUMING


def submit_promised(run, flare):
    run.refresh_from_db()
    tasks.submit(str(run.pk), run.epoch, flare)
    run.refresh_from_db()
