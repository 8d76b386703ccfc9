"""Erasing the body of an entry: two people, one of them an administrator. The entry and the tree stay."""

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compliance.events import kept_until
from platform_web.audit import services
from platform_web.audit.errors import RedactionError
from platform_web.audit.models import AuditBody, AuditEvent, AuditRedaction

ADMINISTRATOR = "administrator"  # the role's group; people stand above this app
Basis = AuditRedaction.Basis


@transaction.atomic
def request_redaction(*, actor: User, event: AuditEvent, basis: str) -> AuditRedaction:
    """Ask that the entry's body be erased. Nothing changes until a second person confirms.

    Raises RedactionError for an entry without a body, an unknown basis, one that is asked about already, and,
    unless the body should never have been there, before the time of keeping is over.
    """
    if basis not in Basis.values:
        raise RedactionError(_("Choose why the body is to be erased."))
    if not AuditBody.objects.filter(event_id=event.event_id).exists():
        raise RedactionError(_("This entry has no body that could be erased."))
    until = kept_until(event.act, event.ts)
    if basis != Basis.MISPLACED and timezone.now() < until:
        raise RedactionError(
            _("Entries of this kind are kept until %(day)s at least.") % {"day": until.date().isoformat()}
        )
    try:
        with transaction.atomic():
            redaction = AuditRedaction.objects.create(
                event_id=event.event_id, basis=basis, requested_by=actor
            )
    except IntegrityError as error:
        raise RedactionError(_("The erasure of this body waits for a second person already.")) from error
    services.record(act="log.redaction_asked", actor=actor, obj=[_entry(event)], data={"basis": basis})
    return redaction


@transaction.atomic
def confirm_redaction(*, actor: User, redaction: AuditRedaction) -> None:
    """Erase body and salt, as the second person.

    Raises RedactionError for one's own request, when neither of the two administers, or when it is closed.
    """
    if redaction.requested_by_id == actor.pk:
        raise RedactionError(_("You asked for this; another person has to confirm it."))
    if not (_administers(actor) or _administers(redaction.requested_by)):
        raise RedactionError(_("One of the two people has to be an administrator."))
    _close(redaction, actor, "confirmed_at")
    event = AuditEvent.objects.get(event_id=redaction.event_id)
    AuditBody.objects.filter(event_id=redaction.event_id).delete()
    services.record(
        act="log.redacted",
        actor=actor,
        site=event.site,
        obj=[_entry(event)],
        data={"basis": redaction.basis, "requested_by": str(redaction.requested_by_id)},
    )


@transaction.atomic
def withdraw_redaction(*, actor: User, redaction: AuditRedaction) -> None:
    """Close a request without effect. Raises RedactionError when it is closed."""
    _close(redaction, actor, "withdrawn_at")
    services.record(act="log.redaction_withdrawn", actor=actor, obj=[("entry", str(redaction.event_id), "")])


def _close(redaction: AuditRedaction, actor: User, moment: str) -> None:
    still_open = AuditRedaction.objects.filter(pk=redaction.pk, confirmed_at=None, withdrawn_at=None)
    if not still_open.update(closed_by=actor, **{moment: timezone.now()}):
        raise RedactionError(_("This request is closed already. Open the entry's page again."))


def _administers(person: User) -> bool:
    """By the same rule as everywhere: exactly this one role."""
    return [group.name for group in person.groups.all()] == [ADMINISTRATOR]


def _entry(event: AuditEvent) -> services.Object:
    return "entry", str(event.event_id), bytes(event.leaf_hash).hex()
