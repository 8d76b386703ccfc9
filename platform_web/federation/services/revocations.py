"""Revoking a site's certificates, which takes two administrators, and a site that leaves by itself."""

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.accounts.models import Role
from platform_web.accounts.reasons import REASON_MAX, REASON_MIN
from platform_web.accounts.scope import has_role
from platform_web.audit import services as audit
from platform_web.federation import allow_list
from platform_web.federation.errors import RevocationError
from platform_web.federation.models import Revocation, Site
from platform_web.federation.services.sites import one_line


@transaction.atomic
def request_revocation(*, actor: User, site: Site, reason: str) -> Revocation:
    """Ask that the site's certificates be revoked. Nothing changes until a second administrator confirms.

    Raises RevocationError for a reason shorter than 10 characters, a request that is open already or a site
    without a certificate that could be revoked; FederationError for a reason that is not one line.
    """
    _check_right(actor)
    reason = one_line(_("reason"), reason, REASON_MAX)
    if len(reason) < REASON_MIN:
        raise RevocationError(_("Say why in at least %(count)d characters.") % {"count": REASON_MIN})
    if not site.certificates.filter(revoked_at=None, replaced_at=None).exists():
        raise RevocationError(_("%(site)s has no certificate that could be revoked.") % {"site": site.name})
    try:
        with transaction.atomic():
            revocation = Revocation.objects.create(site=site, reason=reason, requested_by=actor)
    except IntegrityError as error:
        raise RevocationError(
            _("A revocation of %(site)s waits for confirmation already.") % {"site": site.name}
        ) from error
    audit.record(
        act="revocation.requested",
        actor=actor,
        site=site.name,
        obj=[_object(revocation)],
        body={"reason": reason},
    )
    return revocation


@transaction.atomic
def confirm_revocation(*, actor: User, revocation: Revocation) -> None:
    """Revoke every certificate of the site, as a second administrator. In force with the commit.

    Raises RevocationError for one's own request and for one that is closed.
    """
    _check_right(actor)
    if revocation.requested_by_id == actor.pk:
        raise RevocationError(
            _("You asked for this revocation; another administrator has to confirm it. Suspend the site to "
              "refuse it at once.")
        )  # fmt: skip
    _close(revocation, actor, "confirmed_at")
    serials = bar_site(revocation.site, Site.Status.REVOKED)
    audit.record(
        act="certificate.revoked",
        actor=actor,
        site=revocation.site.name,
        obj=[_object(revocation), *(("certificate", serial, "") for serial in serials)],
        data={"requested_by": str(revocation.requested_by_id)},
        body={"reason": revocation.reason},
    )


@transaction.atomic
def withdraw_revocation(*, actor: User, revocation: Revocation) -> None:
    """Close a request without effect; any administrator may. Raises RevocationError when it is closed."""
    _check_right(actor)
    _close(revocation, actor, "withdrawn_at")
    audit.record(
        act="revocation.withdrawn", actor=actor, site=revocation.site.name, obj=[_object(revocation)]
    )


@transaction.atomic
def leave_site(*, site: Site) -> None:
    """The site leaves by its own signed wish: its certificates are revoked. Done again it changes nothing."""
    locked = Site.objects.select_for_update().get(pk=site.pk)
    if locked.status == Site.Status.LEFT:
        return
    Revocation.objects.filter(site=locked, confirmed_at=None, withdrawn_at=None).update(
        withdrawn_at=timezone.now()
    )
    serials = bar_site(locked, Site.Status.LEFT)
    audit.record(
        act="site.left", site=locked.name, obj=[("certificate", serial, "") for serial in serials[:20]]
    )


def bar_site(site: Site, status: Site.Status) -> list[str]:
    """No certificate and no kit of the site works any more; the serial numbers that are revoked by it."""
    now = timezone.now()
    current = site.certificates.filter(revoked_at=None)
    serials = list(current.values_list("serial", flat=True)[:20])
    current.update(revoked_at=now)
    site.kits.filter(enrolled_at=None, revoked_at=None).update(revoked_at=now)
    Site.objects.filter(pk=site.pk).update(status=status)
    allow_list.promise()
    return serials


def _close(revocation: Revocation, actor: User, moment: str) -> None:
    still_open = Revocation.objects.filter(pk=revocation.pk, confirmed_at=None, withdrawn_at=None)
    if not still_open.update(closed_by=actor, **{moment: timezone.now()}):
        raise RevocationError(_("This request is closed already. Open the site's page again."))


def _check_right(actor: User) -> None:
    if not has_role(actor, Role.ADMINISTRATOR):
        raise RevocationError(_("Only an administrator may do this."))


def _object(revocation: Revocation) -> audit.Object:
    return "revocation", str(revocation.pk), ""
