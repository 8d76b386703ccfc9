"""Keeping one promise: claim it, call its handler, write down how it went."""

import logging
import uuid

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.module_loading import import_string

from platform_web.outbox import services
from platform_web.outbox.errors import PortalError, TransientError
from platform_web.outbox.models import Task

log = logging.getLogger(__name__)


def run_task(task_id: uuid.UUID) -> bool:
    """Run the task if it is due and free; whether it is finished afterwards by our hand.

    An exception that is no PortalError is a defect: it goes up to the log, the lease runs out and the task is
    tried again until its attempts are used up.
    """
    task = services.claim(task_id, timezone.now())
    if task is None:
        return False
    if task.attempts > services.MAX_ATTEMPTS:
        services.fail(
            task, task.last_error or "The task stopped its worker every time. See the worker's log."
        )
        return False
    handler = import_string(settings.OUTBOX_HANDLERS[task.name][0])
    try:
        handler(**task.arguments)
    except TransientError as error:
        log.info("%s is tried again later: %s", task, error)
        services.postpone(task, str(error))
        return False
    except PortalError as error:
        log.warning("%s failed: %s", task, error)
        services.fail(task, str(error))
        return False
    services.finish(task)
    return True


def run_all_due() -> int:
    """Run every open task that is due, in this process; the number finished. For tests and commands."""
    now = timezone.now()
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    due = Task.objects.filter(free, finished__isnull=True, failed__isnull=True, not_before__lte=now)
    return sum(run_task(task_id) for task_id in due.order_by("created").values_list("pk", flat=True))
