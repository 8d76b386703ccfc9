"""Promise work and claim it exactly once. Celery is only the doorbell; the rows are the truth."""

import logging
import uuid
from datetime import datetime, timedelta

from celery import current_app
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import OperationalError

from platform_web.outbox.errors import OutboxError
from platform_web.outbox.models import Task

LEASE = timedelta(seconds=60)  # a crashed worker's task is free again after this
RING_AGAIN = timedelta(seconds=15)  # a ring not heard for this long is taken for lost
MAX_ATTEMPTS = 12
MAX_BACK_OFF = timedelta(seconds=60)
log = logging.getLogger(__name__)


def enqueue(name: str, **arguments: object) -> Task:
    """Promise a task. Call it inside the transaction that makes it necessary.

    ``name`` stands in ``settings.OUTBOX_HANDLERS``; ``arguments`` are JSON values. The bell is rung when the
    transaction has committed. Raises OutboxError outside a transaction or for an unknown name.
    """
    if not connection.in_atomic_block:
        raise OutboxError("A task is promised inside the transaction that makes it necessary.")
    if name not in settings.OUTBOX_HANDLERS:
        raise OutboxError(f"No handler is registered for the task {name!r}.")
    queue = settings.OUTBOX_HANDLERS[name][1]
    task = Task.objects.create(name=name, queue=queue, arguments=arguments, not_before=timezone.now())
    # robust: what was committed is done, whatever the database says to the bell
    transaction.on_commit(lambda: ring(task.pk, queue), robust=True)
    return task


def ring(task_id: uuid.UUID, queue: str) -> None:
    """Tell a worker. A broker that does not answer is no error: the reconciler rings again."""
    Task.objects.filter(pk=task_id).update(rung_at=timezone.now())
    try:
        current_app.send_task(
            "outbox.run",
            args=[str(task_id)],
            queue=queue,
            expires=RING_AGAIN.total_seconds() * 2,
            retry=False,
        )
    except (OperationalError, OSError) as error:
        log.warning("the broker does not answer (%s); the reconciler will ring again", type(error).__name__)


def ring_due(now: datetime) -> int:
    """Ring for every task that is due and was not heard; the number of bells rung."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    unheard = Q(rung_at__isnull=True) | Q(rung_at__lt=now - RING_AGAIN) | Q(rung_at__lt=F("not_before"))
    open_tasks = Task.objects.filter(
        free, unheard, finished__isnull=True, failed__isnull=True, not_before__lte=now
    )
    due = list(open_tasks.order_by("not_before").values_list("pk", "queue")[:200])
    for task_id, queue in due:
        ring(task_id, queue)
    return len(due)


def claim(task_id: uuid.UUID, now: datetime) -> Task | None:
    """The task, leased to the caller, or None when it is done, not due or somebody else's.

    One conditional UPDATE decides, so two workers never both get it.
    """
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    won = Task.objects.filter(
        free, pk=task_id, finished__isnull=True, failed__isnull=True, not_before__lte=now
    ).update(lease_until=now + LEASE, attempts=F("attempts") + 1)
    return Task.objects.get(pk=task_id) if won else None


def finish(task: Task) -> None:
    """The promise is kept."""
    Task.objects.filter(pk=task.pk).update(finished=timezone.now(), lease_until=None, last_error="")


def fail(task: Task, sentence: str) -> None:
    """The promise cannot be kept; ``sentence`` says why and what to do."""
    Task.objects.filter(pk=task.pk).update(
        failed=timezone.now(), lease_until=None, last_error=sentence[:2000]
    )


def postpone(task: Task, sentence: str) -> None:
    """Try again later, each time twice as late up to a minute; after 12 attempts it has failed."""
    if task.attempts >= MAX_ATTEMPTS:
        fail(task, sentence)
        return
    wait = min(MAX_BACK_OFF, timedelta(seconds=2**task.attempts))
    Task.objects.filter(pk=task.pk).update(
        not_before=timezone.now() + wait, lease_until=None, last_error=sentence[:2000]
    )
