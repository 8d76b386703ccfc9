"""The reason that stands in the log for what one person does to another's account."""

from django.utils.translation import gettext as _

from platform_web.accounts.errors import AccountError

REASON_MIN, REASON_MAX = 10, 500


def checked_reason(typed: str) -> str:
    """``typed`` with single spaces. Raises AccountError below 10 characters and above one line of 500."""
    reason = " ".join(typed.split())
    if len(reason) < REASON_MIN:
        raise AccountError(_("Say why in at least %(count)d characters.") % {"count": REASON_MIN})
    if len(reason) > REASON_MAX or not reason.isprintable():
        raise AccountError(_("The reason must be one line of at most %(limit)d characters.")
                           % {"limit": REASON_MAX})  # fmt: skip
    return reason
