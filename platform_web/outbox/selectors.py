"""Reading promises."""

from platform_web.outbox.models import Task


def is_pending(name: str, **arguments: object) -> bool:
    """Whether a task of this name with exactly these arguments is promised and not yet kept or failed."""
    return Task.objects.filter(
        name=name, arguments=arguments, finished__isnull=True, failed__isnull=True
    ).exists()
