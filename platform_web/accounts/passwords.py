"""New passwords: one's own, and a colleague's who forgot it. Each is one transaction and its entry.

Whoever is signed in with the password before is signed out: a session is bound to it.
"""

from axes.utils import reset as forgive_wrong_tries
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from platform_web.accounts.errors import AccountError
from platform_web.accounts.models import Role
from platform_web.accounts.reasons import checked_reason
from platform_web.accounts.scope import has_role
from platform_web.audit import services as audit


def change(*, person: User, password: str) -> None:
    """Store what ``person`` chose; the caller asked for the one before. Raises AccountError if it is weak."""
    _set(person, password)
    with transaction.atomic():
        person.save(update_fields=["password"])
        audit.record(act="person.password_changed", actor=person)


def reset(*, actor: User | None, person: User, password: str, reason: str) -> None:
    """Give a colleague a new password; wrong tries before it no longer count.

    ``actor`` is None at the server's console only. Raises AccountError for one's own, for somebody who is
    deactivated, for a weak password and for a reason below 10 characters or above one line of 500.
    """
    if actor is not None and not has_role(actor, Role.ADMINISTRATOR):
        raise AccountError(_("Only an administrator may do this."))
    if actor is not None and actor.pk == person.pk:
        raise AccountError(_("Change your own password on the page of your account."))
    reason = checked_reason(reason)
    _set(person, password)
    with transaction.atomic():
        if not User.objects.filter(pk=person.pk, is_active=True).update(password=person.password):
            raise AccountError(_("%(name)s is deactivated and cannot sign in.")
                               % {"name": person.get_username()})  # fmt: skip
        forgive_wrong_tries(username=person.get_username())
        audit.record(
            act="person.password_reset",
            actor=actor,
            obj=[("person", str(person.pk), "")],
            body={"reason": reason},
        )


def _set(person: User, password: str) -> None:
    """Outside the transaction: the hash takes its time, SQLite has one lock."""
    try:
        validate_password(password, person)
    except ValidationError as error:
        raise AccountError(" ".join(error.messages)) from error
    person.set_password(password)
