"""What the worker does for the log now and then."""

from celery import shared_task

from platform_web.audit import rounds, spool


@shared_task(name="audit.replay_spool")
def replay_spool() -> None:
    """Refusals that waited on disk go into the log."""
    spool.replay()


@shared_task(name="audit.check_stored")
def check_stored() -> None:
    """The next stored entries are hashed again."""
    rounds.go_on()
