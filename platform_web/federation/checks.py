"""A system check for ``manage.py check --database default``: is this the portal's master key."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DatabaseError

from platform_web.federation.models import Federation
from platform_web.federation.secrets import check_master_key
from site_kits.errors import MasterKeyError


@register(Tags.database)
def master_key_fits(
    databases: Sequence[str] | None = None,
    **options: Any,  # noqa: ARG001
) -> list[CheckMessage]:
    """One Error when the key does not fit; nothing before the portal is set up."""
    if not databases:
        return []
    try:
        federation = Federation.objects.order_by("pk").only("key_check").first()
    except DatabaseError:  # no tables yet
        return []
    if federation is None:
        return []
    try:
        check_master_key(federation.key_check)
    except MasterKeyError as error:
        return [Error(str(error), id="consilium.E001")]
    return []
