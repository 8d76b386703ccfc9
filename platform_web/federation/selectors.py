"""Reading sites, kits and certificates where a read is used twice or must be careful."""

from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.federation.errors import (
    EnrolmentTokenError,
    KitLinkExpiredError,
    KitLinkUnknownError,
    KitLinkUsedError,
    KitLockedError,
    UnknownSiteError,
)
from platform_web.federation.models import Certificate, Kit, Revocation, Site
from platform_web.federation.secrets import token_sha256
from site_kits.provisioning.ca import public_key_sha256


def open_kit(token: str) -> Kit:
    """The kit of a link that can still be used. Raises KitLink{Unknown,Used,Expired}Error with a sentence."""
    kit = _kit_of_link(token)
    if kit is None:
        raise KitLinkUnknownError(
            _("This is not a kit link. Copy the whole link, or ask the administrator for one.")
        )
    if kit.enrolled_at is not None:
        raise KitLinkUsedError(
            _(
                "This link was used: its site has its certificate. If that was not you, tell the "
                "administrator now."
            )
        )
    if kit.revoked_at is not None:
        raise KitLinkExpiredError(_("A newer invitation has replaced this one. Use the newer link."))
    if kit.locked_at is not None:
        raise locked_link()
    if kit.link_expires <= timezone.now():
        raise KitLinkExpiredError(
            _("This link is over: it worked for 72 hours. Ask the administrator for a new one.")
        )
    return kit


def locked_link() -> KitLockedError:
    """The error of a link that five wrong PINs have burnt."""
    return KitLockedError(
        _("This link is locked: five wrong PINs were given. Ask the administrator for a new invitation.")
    )


def kit_for_enrolment(token: str) -> Kit:
    """The kit of a link a site may enrol with, also once more after a lost answer.

    Raises EnrolmentTokenError; whether the link is unknown, replaced or over is not said.
    """
    kit = _kit_of_link(token)
    if (
        kit is None
        or kit.revoked_at is not None
        or kit.link_expires <= timezone.now()
        or kit.site.status in Site.BARRED
    ):
        raise EnrolmentTokenError(
            _(
                "This link is not known here, or it was replaced, or its 72 hours are over. Ask the "
                "administrator for a new invitation."
            )
        )
    return kit


def _kit_of_link(token: str) -> Kit | None:
    """Looked up by the hash of 256 random bits: how long it takes tells nothing about them."""
    return Kit.objects.select_related("site").filter(link_sha256=token_sha256(token)).first()


def peer_keys(site: Site) -> dict[str, str]:
    """Name → SHA-256 (hex) of the public key of every other enrolled site, from its newest certificate."""
    valid = Certificate.objects.select_related("site").filter(
        site__status=Site.Status.ENROLLED, revoked_at=None, replaced_at=None, not_after__gt=timezone.now()
    )
    newest = {row.site.name: row.pem for row in valid.exclude(site=site).order_by("created")}
    return {name: public_key_sha256(pem.encode()) for name, pem in sorted(newest.items())}


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


def names_taking_part() -> set[str]:
    """The sites whose certificates count."""
    return set(Site.objects.filter(status=Site.Status.ENROLLED).values_list("name", flat=True))
