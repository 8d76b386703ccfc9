"""Start-up kits: issued with a one-time link, built, handed out once."""

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation import authority, selectors
from platform_web.federation.errors import (
    FederationError,
    KitNotReadyError,
)
from platform_web.federation.models import Kit, Site
from platform_web.federation.secrets import new_token, token_sha256
from platform_web.outbox import services as outbox

LINK_LIFETIME = timedelta(hours=72)
ENROLMENT_LIFETIME = timedelta(days=7)


@dataclass(frozen=True)
class Invitation:
    """A site, its kit and the token of the one-time link: shown once, never stored."""

    site: Site
    kit: Kit
    token: str

    @property
    def path(self) -> str:
        """The path of the link on the portal."""
        return f"/kits/{self.token}/"


@transaction.atomic
def issue_kit(*, actor: User, site: Site) -> Invitation:
    """A fresh kit for a site; links and enrolment tokens of earlier kits stop working."""
    site = Site.objects.select_for_update().get(pk=site.pk)
    if site.status in (Site.Status.REVOKED, Site.Status.LEFT):  # the new kit is its way back
        site.status = Site.Status.INVITED
        Site.objects.filter(pk=site.pk).update(status=site.status)
    if site.status == Site.Status.SUSPENDED:
        raise FederationError(_("%(site)s is suspended; it gets no kit.") % {"site": site.name})
    authority.the_federation()
    site.kits.filter(enrolled_at__isnull=True, revoked_at__isnull=True).update(revoked_at=timezone.now())
    invitation = new_kit(site, actor)
    audit.record(act="kit.issued", actor=actor, site=site.name, obj=[("kit", str(invitation.kit.pk), "")])
    return invitation


def new_kit(site: Site, actor: User) -> Invitation:
    now, token = timezone.now(), new_token()
    kit = Kit.objects.create(
        site=site,
        link_sha256=token_sha256(token),
        link_expires=now + LINK_LIFETIME,
        enrolment_expires=now + ENROLMENT_LIFETIME,
        issued_by=actor,
    )
    outbox.enqueue("federation.build_kit", kit_id=str(kit.pk))
    return Invitation(site, kit, token)


@transaction.atomic
def record_kit_built(*, kit: Kit, enrolment_token: str, zip_sha256: str) -> bool:
    """The archive is on disk under its temporary name; False when another worker was first."""
    return bool(
        Kit.objects.filter(pk=kit.pk, built_at__isnull=True).update(
            built_at=timezone.now(),
            enrolment_sha256=token_sha256(enrolment_token),
            zip_sha256=zip_sha256,
            error="",
        )
    )


@transaction.atomic
def record_kit_failed(*, kit: Kit, sentence: str) -> None:
    """The kit could not be built; the sites page shows why."""
    Kit.objects.filter(pk=kit.pk, built_at__isnull=True).update(error=sentence[:2000])


@transaction.atomic
def hand_out_kit(*, token: str) -> Kit:
    """Mark the kit of this link as fetched: of two clicks at the same time one wins.

    Raises KitLinkUnknownError, KitLinkUsedError, KitLinkExpiredError or KitNotReadyError.
    """
    kit = selectors.open_kit(token)
    if kit.built_at is None:
        raise KitNotReadyError(_("The kit is being prepared. Try again in a few seconds."))
    if not Kit.objects.filter(pk=kit.pk, fetched_at__isnull=True).update(fetched_at=timezone.now()):
        raise selectors.used_link()
    audit.record(
        act="kit.fetched", actor_type="site", site=kit.site.name, obj=[("kit", str(kit.pk), kit.zip_sha256)]
    )
    return kit
