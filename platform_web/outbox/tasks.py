"""What Celery calls. Messages carry an id only."""

import uuid

from celery import shared_task
from django.utils import timezone

from platform_web.outbox import runner, services


@shared_task(name="outbox.run")
def run(task_id: str) -> None:
    """Keep one promise; a duplicate message finds nothing to claim."""
    runner.run_task(uuid.UUID(task_id))


@shared_task(name="outbox.reconcile")
def reconcile() -> None:
    """Ring again for what was lost."""
    services.ring_due(timezone.now())
