"""Changes to sites, kits and certificates. Each public function is one transaction and one audit entry."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation import authority, selectors
from platform_web.federation.errors import (
    EnrolmentTokenError,
    FederationError,
    KitNotReadyError,
    SiteNameError,
)
from platform_web.federation.heartbeat import Heartbeat
from platform_web.federation.models import AgentNonce, Certificate, Dataset, Kit, Site
from platform_web.federation.names import check_site_name
from platform_web.federation.secrets import new_token, token_sha256
from platform_web.outbox import services as outbox
from site_kits.provisioning import ca
from site_kits.signing import serial_hex

LINK_LIFETIME = timedelta(hours=72)
ENROLMENT_LIFETIME = timedelta(days=7)
NONCE_LIFETIME = timedelta(minutes=10)  # the signature's window is ±2 minutes


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


@dataclass(frozen=True)
class Enrolment:
    """What a site receives for its request."""

    certificate_pem: str
    root_ca_pem: str
    serial: str
    not_after: datetime


@transaction.atomic
def invite_site(*, actor: User, name: str, title: str, organisation: str, zone: str = "") -> Invitation:
    """Add a site and promise its kit; the invitation holds the one-time link.

    Raises SiteNameError for a malformed, reserved or taken name, FederationError for other fields.
    """
    check_site_name(name, authority.the_federation())
    texts = [_clean(_("title"), title, 200), _clean(_("organisation"), organisation, 64)]
    zone = _clean(_("zone"), zone, 64, required=False)
    site, is_new = Site.objects.get_or_create(
        name=name, defaults={"title": texts[0], "organisation": texts[1], "zone": zone}
    )
    if not is_new:
        raise SiteNameError(_("There is a site called %(name)s already. Choose another.") % {"name": name})
    invitation = _new_kit(site, actor)
    audit.record(
        act="site.invited",
        actor=actor,
        site=name,
        obj=[("site", name, ""), ("kit", str(invitation.kit.pk), "")],
        data={"title": site.title, "organisation": site.organisation, "zone": zone},
    )
    return invitation


@transaction.atomic
def issue_kit(*, actor: User, site: Site) -> Invitation:
    """A fresh kit for a site; links and enrolment tokens of earlier kits stop working."""
    site = Site.objects.select_for_update().get(pk=site.pk)
    if site.status == Site.Status.SUSPENDED:
        raise FederationError(_("%(site)s is suspended; it gets no kit.") % {"site": site.name})
    authority.the_federation()
    site.kits.filter(enrolled_at__isnull=True, revoked_at__isnull=True).update(revoked_at=timezone.now())
    invitation = _new_kit(site, actor)
    audit.record(act="kit.issued", actor=actor, site=site.name, obj=[("kit", str(invitation.kit.pk), "")])
    return invitation


def _new_kit(site: Site, actor: User) -> Invitation:
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


def _clean(field: str, value: str, limit: int, *, required: bool = True) -> str:
    """One line of text without control characters. Raises FederationError."""
    value = " ".join(value.split())
    if (
        (required and not value)
        or len(value.encode()) > limit * 3
        or len(value) > limit
        or not value.isprintable()
    ):
        raise FederationError(
            _("The %(field)s must be one line of at most %(limit)d characters.")
            % {"field": field, "limit": limit}
        )
    return value


@transaction.atomic
def suspend_site(*, actor: User, site: Site, reason: str = "") -> None:
    """Refuse the site's agent from now on. Raises FederationError when it is suspended already."""
    if (
        not Site.objects.filter(pk=site.pk)
        .exclude(status=Site.Status.SUSPENDED)
        .update(status=Site.Status.SUSPENDED)
    ):
        raise FederationError(_("%(site)s is suspended already.") % {"site": site.name})
    audit.record(
        act="site.suspended",
        actor=actor,
        site=site.name,
        obj=[("site", site.name, "")],
        data={"reason": reason},
    )


@transaction.atomic
def resume_site(*, actor: User, site: Site, reason: str = "") -> None:
    """Let a suspended site take part again. Raises FederationError when it is not suspended."""
    has_certificate = site.certificates.filter(revoked_at__isnull=True).exists()
    status = Site.Status.ENROLLED if has_certificate else Site.Status.INVITED
    if not Site.objects.filter(pk=site.pk, status=Site.Status.SUSPENDED).update(status=status):
        raise FederationError(_("%(site)s is not suspended.") % {"site": site.name})
    audit.record(
        act="site.resumed",
        actor=actor,
        site=site.name,
        obj=[("site", site.name, "")],
        data={"reason": reason},
    )


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


@transaction.atomic
def enrol_site(*, name: str, token: str, csr_pem: str) -> Enrolment:
    """Certificate for the key the site made itself; the token is used up exactly when one is issued.

    The same token with the same key gives the same certificate again: the first answer may have been lost
    on the wire, and only the holder of that key can use it. Raises EnrolmentTokenError (nothing is said
    about which part was wrong), CertificateRequestError for a bad request or another name, MasterKeyError.
    """
    kit = selectors.kit_for_enrolment(name, token)
    federation = authority.the_federation()
    if kit is None:
        again = _issued_before(name, token, csr_pem)
        return Enrolment(again.pem, federation.root_certificate_pem, again.serial, again.not_after)
    root_key, root = authority.open_root(federation)
    pem = ca.sign_site_csr(
        root_key, root, csr_pem.encode(errors="replace"), site=name, organisation=kit.site.organisation
    )
    if not Kit.objects.filter(pk=kit.pk, enrolled_at__isnull=True).update(enrolled_at=timezone.now()):
        raise EnrolmentTokenError(_("The enrolment token was just used. Ask for a new kit."))
    certificate = _store_certificate(kit, pem)
    Site.objects.filter(pk=kit.site_id, status=Site.Status.INVITED).update(status=Site.Status.ENROLLED)
    audit.record(
        act="certificate.issued",
        site=name,
        obj=[("certificate", certificate.serial, certificate.fingerprint_sha256), ("kit", str(kit.pk), "")],
        data={"not_after": certificate.not_after.isoformat()},
    )
    return Enrolment(
        certificate.pem, federation.root_certificate_pem, certificate.serial, certificate.not_after
    )


def _issued_before(name: str, token: str, csr_pem: str) -> Certificate:
    certificate = selectors.certificate_issued_for(name, token)
    if certificate is not None:
        key = x509.load_pem_x509_certificate(certificate.pem.encode()).public_key()
        if key == ca.requested_key(csr_pem.encode(errors="replace"), site=name):
            return certificate
    raise EnrolmentTokenError(
        _("The enrolment token is wrong, used or expired. Ask the administrator for a new kit.")
    )


def _store_certificate(kit: Kit, pem: bytes) -> Certificate:
    certificate = x509.load_pem_x509_certificate(pem)
    return Certificate.objects.create(
        site=kit.site,
        kit=kit,
        serial=serial_hex(certificate),
        fingerprint_sha256=ca.fingerprint_sha256(pem),
        pem=pem.decode(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


@transaction.atomic
def use_nonce(*, site: Site, nonce: str, now: datetime) -> bool:
    """Whether this is the nonce's first use; the unique pair decides between two at the same time."""
    return AgentNonce.objects.get_or_create(site=site, nonce=nonce, defaults={"used_at": now})[1]


@transaction.atomic
def prune_nonces(*, now: datetime) -> None:
    """Forget nonces whose requests would be refused for their time anyway."""
    AgentNonce.objects.filter(used_at__lt=now - NONCE_LIFETIME).delete()


@transaction.atomic
def record_heartbeat(*, site: Site, heartbeat: Heartbeat, now: datetime) -> None:
    """Keep what the agent says and the counts of its data sets. Audited only when a data set changed."""
    report = heartbeat.model_dump(mode="json", exclude={"datasets"})
    Site.objects.filter(pk=site.pk).update(
        heartbeat_at=now, heartbeat=report, inference_url=heartbeat.inference.url
    )
    known = dict(Dataset.objects.filter(site=site).values_list("name", "digest"))
    changed = [card for card in heartbeat.datasets if known.get(card.name) != card.digest]
    for card in heartbeat.datasets:
        values = card.model_dump(mode="json", exclude={"name"}) | {"reported_at": now}
        Dataset.objects.update_or_create(site=site, name=card.name, defaults=values)
    if changed:
        audit.record(
            act="dataset.reported",
            site=site.name,
            obj=[("dataset", card.name, card.digest) for card in changed[:20]],
            data={"rows": sum(card.rows for card in changed), "datasets": len(changed)},
        )


@transaction.atomic
def record_flare_seen(*, names: Iterable[str], now: datetime) -> None:
    """These sites are registered with the NVFlare server at this moment."""
    Site.objects.filter(name__in=list(names)).update(flare_seen_at=now)
