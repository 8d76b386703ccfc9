"""A system check for ``manage.py check --database default``: do acknowledged entries outlive a power cut."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import DatabaseError, connections

DURABLE = ("fsync", "full_page_writes")


@register(Tags.database)
def acknowledged_means_on_disk(
    databases: Sequence[str] | None = None,
    **options: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """One Warning for each setting of the PostgreSQL server by which a power cut loses or tears entries."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        if connections[alias].vendor == "postgresql":
            found += [_warning(name) for name in DURABLE if _setting(alias, name) == "off"]
    return found


def _setting(alias: str, name: str) -> str:
    """Empty when the database does not answer: whoever checks is told so by what needs it."""
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT current_setting(%s)", [name])
            return str(cursor.fetchone()[0])
    except DatabaseError:
        return ""


def _warning(name: str) -> Warning:
    return Warning(
        f"PostgreSQL runs with {name} = off: a power cut may lose audit entries that were acknowledged.",
        hint=f"Set {name} = on in postgresql.conf and restart PostgreSQL.",
        id="consilium.W001",
    )
