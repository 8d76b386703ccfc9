"""The PIN of an invitation: told by another channel than the link, and few attempts."""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from platform_web.audit import services as audit
from platform_web.federation import selectors
from platform_web.federation.errors import PinWrongError
from platform_web.federation.models import Kit
from platform_web.federation.secrets import is_pin

PIN_ATTEMPTS = 5


def check_pin(*, kit: Kit, pin: str) -> None:
    """Raises PinWrongError when this is not the link's PIN, KitLockedError at the fifth wrong one and after.

    A transaction of its own: a wrong attempt counts whatever the caller does next, and of many at the same
    time none goes uncounted. A right PIN does not give attempts back.
    """
    # the slow hash before the transaction: SQLite's one write lock is held during it, and others get a 503
    is_right = kit.locked_at is None and is_pin(pin, kit.pin_hash)
    with transaction.atomic():
        held = Kit.objects.select_for_update().get(pk=kit.pk)
        if held.locked_at is None:
            if is_right and held.pin_hash == kit.pin_hash:
                return
            _count_failure(held)
    if held.locked_at is not None:
        raise selectors.locked_link()
    left = PIN_ATTEMPTS - held.pin_failures
    counted = ngettext("one attempt is left", "%(left)d attempts are left", left) % {"left": left}
    raise PinWrongError(
        _("This is not the PIN of the invitation; %(attempts)s. Ask the administrator by telephone.")
        % {"attempts": counted}
    )


def _count_failure(kit: Kit) -> None:
    kit.pin_failures += 1
    is_last = kit.pin_failures >= PIN_ATTEMPTS
    kit.locked_at = timezone.now() if is_last else None
    Kit.objects.filter(pk=kit.pk).update(pin_failures=kit.pin_failures, locked_at=kit.locked_at)
    audit.record(
        act="kit.locked" if is_last else "kit.pin_failed",
        actor_type="site",
        site=kit.site.name,
        obj=[("kit", str(kit.pk), "")],
        out="deny",
        data={"failures": kit.pin_failures},
    )
