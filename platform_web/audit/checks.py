"""A system check for ``manage.py check --database default``: do acknowledged entries outlive a power cut."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import connections

DURABLE = ("fsync", "full_page_writes")


@register(Tags.database)
def acknowledged_means_on_disk(
    databases: Sequence[str] | None = None,
    **options: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """One Warning for each setting of the PostgreSQL server by which a power cut loses or tears entries."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        if connections[alias].vendor != "postgresql":
            continue
        with connections[alias].cursor() as cursor:
            for name in DURABLE:
                cursor.execute("SELECT current_setting(%s)", [name])
                if cursor.fetchone()[0] != "on":
                    found.append(_warning(name))
    return found


def _warning(name: str) -> Warning:
    return Warning(
        f"PostgreSQL runs with {name} = off: a power cut may lose audit entries that were acknowledged.",
        hint=f"Set {name} = on in postgresql.conf and restart PostgreSQL.",
        id="consilium.W001",
    )
