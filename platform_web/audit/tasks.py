"""What the worker does for the log now and then."""

from celery import shared_task

from platform_web.audit import spool


@shared_task(name="audit.replay_spool")
def replay_spool() -> None:
    """Refusals that waited on disk go into the log."""
    spool.replay()
