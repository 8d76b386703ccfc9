"""Reading sites, kits and certificates where a read is used twice or must be careful."""

import hmac

from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.federation.errors import (
    KitLinkExpiredError,
    KitLinkUnknownError,
    KitLinkUsedError,
    UnknownSiteError,
)
from platform_web.federation.models import Certificate, Kit, Revocation, Site
from platform_web.federation.secrets import token_sha256


def open_kit(token: str) -> Kit:
    """The kit of a link that can still be used. Raises KitLink{Unknown,Used,Expired}Error with a sentence."""
    digest = token_sha256(token)
    kit = Kit.objects.select_related("site").filter(link_sha256=digest).first()
    if kit is None or not hmac.compare_digest(kit.link_sha256, digest):
        raise KitLinkUnknownError(
            _("This is not a kit link. Copy the whole link, or ask the administrator for one.")
        )
    if kit.fetched_at is not None:
        raise used_link()
    if kit.revoked_at is not None:
        raise KitLinkExpiredError(_("A newer kit has replaced this one. Use the newer link."))
    if kit.link_expires <= timezone.now():
        raise KitLinkExpiredError(
            _("This link is over: it worked for 72 hours. Ask the administrator for a new one.")
        )
    return kit


def used_link() -> KitLinkUsedError:
    """The error of a link that was used before."""
    return KitLinkUsedError(
        _("This kit was fetched before; a link works once. If that was not you, tell the administrator now.")
    )


def kit_for_enrolment(name: str, token: str) -> Kit | None:
    """The kit whose enrolment token this is, if it can be used for this site now.

    The comparison goes over all open kits of the site in constant time each.
    """
    digest = token_sha256(token)
    open_kits = (
        Kit.objects.select_related("site")
        .filter(
            site__name=name,
            enrolled_at__isnull=True,
            revoked_at__isnull=True,
            built_at__isnull=False,
            enrolment_expires__gt=timezone.now(),
        )
        .exclude(site__status__in=Site.BARRED)
    )
    matching = [kit for kit in open_kits if hmac.compare_digest(kit.enrolment_sha256, digest)]
    return matching[0] if matching else None


def certificate_issued_for(name: str, token: str) -> Certificate | None:
    """The certificate this enrolment token was used for, while token and certificate are still good."""
    digest, now = token_sha256(token), timezone.now()
    issued = (
        Certificate.objects.select_related("kit", "site")
        .filter(site__name=name, kit__enrolment_expires__gt=now, not_after__gt=now)
        .filter(revoked_at=None, replaced_at=None)
        .exclude(site__status__in=Site.BARRED)
    )
    matching = [row for row in issued if row.kit and hmac.compare_digest(row.kit.enrolment_sha256, digest)]
    return matching[0] if matching else None


def certificate_of(site: str, serial: str) -> Certificate:
    """The certificate an agent signs with.

    Raises UnknownSiteError when it is unknown or does not count; its ``code`` tells the agent which.
    """
    certificate = (
        Certificate.objects.select_related("site", "renewal_of")
        .filter(site__name=site, serial=serial)
        .first()
    )
    if certificate is None:
        raise UnknownSiteError(_("This certificate is not known here. Ask for a new kit."))
    if certificate.site.status == Site.Status.SUSPENDED:
        raise UnknownSiteError(_("This site is suspended. Ask the administrator."), code="suspended")
    if certificate.site.status == Site.Status.LEFT:
        raise UnknownSiteError(_("This site has left the federation. Ask for a new kit."), code="left")
    if certificate.revoked_at is not None:
        raise UnknownSiteError(_("This certificate was REVOKED. Ask for a new kit."), code="revoked")
    if certificate.replaced_at is not None:
        raise UnknownSiteError(
            _("This certificate was replaced by a newer one of the site, which has been used. Is the site "
              "running twice? Otherwise ask for a new kit."),
            code="replaced",
        )  # fmt: skip
    if certificate.not_after <= timezone.now():
        raise UnknownSiteError(_("This certificate has EXPIRED. Ask for a new kit."), code="expired")
    return certificate


def open_revocations() -> list[Revocation]:
    """Revocations that wait for a second administrator, newest first."""
    waiting = Revocation.objects.filter(confirmed_at=None, withdrawn_at=None)
    return list(waiting.select_related("site", "requested_by"))
