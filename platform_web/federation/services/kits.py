"""Invitations and their kits: a one-time link, a PIN, an archive without a secret."""

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation import authority, selectors
from platform_web.federation.errors import FederationError, KitNotReadyError
from platform_web.federation.models import Kit, Site
from platform_web.federation.secrets import new_pin, new_token, pin_hash, token_sha256
from platform_web.federation.services.pins import check_pin
from platform_web.outbox import services as outbox

LINK_LIFETIME = timedelta(hours=72)


@dataclass(frozen=True)
class Invitation:
    """A site, its kit, the token of the one-time link and the PIN: both shown once, never stored."""

    site: Site
    kit: Kit
    token: str
    pin: str

    @property
    def path(self) -> str:
        """The path of the link on the portal."""
        return f"/kits/{self.token}/"


@dataclass(frozen=True)
class Drawn:
    """A new link's token and PIN, and the PIN's hash: work that no transaction should hold up."""

    token: str
    pin: str
    pin_hash: str


def draw_link() -> Drawn:
    """To be called before the transaction that stores it."""
    pin = new_pin()
    return Drawn(new_token(), pin, pin_hash(pin))


def issue_kit(*, actor: User, site: Site) -> Invitation:
    """A fresh link and PIN for a site; earlier ones that were not used stop working."""
    return _issue_kit(actor, site, draw_link())


@transaction.atomic
def _issue_kit(actor: User, site: Site, drawn: Drawn) -> Invitation:
    site = Site.objects.select_for_update().get(pk=site.pk)
    if site.status in (Site.Status.REVOKED, Site.Status.LEFT):  # the new kit is its way back
        site.status = Site.Status.INVITED
        Site.objects.filter(pk=site.pk).update(status=site.status)
    if site.status == Site.Status.SUSPENDED:
        raise FederationError(_("%(site)s is suspended; it gets no kit.") % {"site": site.name})
    authority.the_federation()
    site.kits.filter(enrolled_at__isnull=True, revoked_at__isnull=True).update(revoked_at=timezone.now())
    invitation = new_kit(site, actor, drawn)
    audit.record(act="kit.issued", actor=actor, site=site.name, obj=[("kit", str(invitation.kit.pk), "")])
    return invitation


def new_kit(site: Site, actor: User, drawn: Drawn) -> Invitation:
    kit = Kit.objects.create(
        site=site,
        link_sha256=token_sha256(drawn.token),
        link_expires=timezone.now() + LINK_LIFETIME,
        pin_hash=drawn.pin_hash,
        issued_by=actor,
    )
    outbox.enqueue("federation.build_kit", kit_id=str(kit.pk))
    return Invitation(site, kit, drawn.token, drawn.pin)


@transaction.atomic
def record_kit_built(*, kit: Kit, zip_sha256: str) -> bool:
    """The archive is on disk under its temporary name; False when another worker was first."""
    return bool(
        Kit.objects.filter(pk=kit.pk, built_at__isnull=True).update(
            built_at=timezone.now(), zip_sha256=zip_sha256, error=""
        )
    )


@transaction.atomic
def record_kit_failed(*, kit: Kit, sentence: str) -> None:
    """The kit could not be built; the sites page shows why."""
    Kit.objects.filter(pk=kit.pk, built_at__isnull=True).update(error=sentence[:2000])


def hand_out_kit(*, token: str, pin: str) -> Kit:
    """The kit of this link for the holder of its PIN. It holds no secret, so a lost file is fetched again.

    Raises KitLinkUnknownError, KitLinkUsedError, KitLinkExpiredError, KitNotReadyError, PinWrongError or
    KitLockedError.
    """
    kit = selectors.open_kit(token)
    check_pin(kit=kit, pin=pin)
    if kit.built_at is None:
        raise KitNotReadyError(kit.error or _("The kit is being prepared. Try again in a few seconds."))
    with transaction.atomic():
        Kit.objects.filter(pk=kit.pk).update(fetched_at=timezone.now())
        audit.record(
            act="kit.fetched",
            actor_type="site",
            site=kit.site.name,
            obj=[("kit", str(kit.pk), kit.zip_sha256)],
        )
    return kit
