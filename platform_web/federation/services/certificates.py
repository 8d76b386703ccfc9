"""Certificates: issued for the key a site made itself, renewed for the same key, replaced once it is used."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation import allow_list, authority, selectors
from platform_web.federation.errors import LinkUsedError
from platform_web.federation.models import Certificate, Federation, Kit, Site
from platform_web.federation.services.pins import check_pin
from site_kits.certificate_dates import renew_from
from site_kits.errors import CertificateRequestError, ForeignNameError
from site_kits.provisioning import ca
from site_kits.signing import serial_hex


@dataclass(frozen=True)
class Enrolment:
    """What a site receives for its request."""

    certificate_pem: str
    root_ca_pem: str
    serial: str
    not_after: datetime
    peers: dict[str, str]  # name of another enrolled site: SHA-256 of its public key, a suggestion to pin


def enrol_site(*, name: str, token: str, pin: str, csr_pem: str) -> Enrolment:
    """Certificate for the key the site made itself; the link is used up exactly when one is issued.

    Certificates of former kits count no more. The same link with the same key gives the same certificate
    again: the first answer may have been lost on the wire, and only the holder of that key can use it.
    Raises EnrolmentTokenError (which does not say whether the link is unknown or over), PinWrongError,
    KitLockedError, CertificateRequestError for a bad request or another name, MasterKeyError.
    """
    kit = selectors.kit_for_enrolment(token)
    check_pin(kit=kit, pin=pin)
    if kit.site.name != name:
        raise ForeignNameError(
            _("The invitation is for another site than %(name)s. Start the kit that came with this link.")
            % {"name": name}
        )
    federation = authority.the_federation()
    return _certify(kit, csr_pem.encode(errors="replace"), federation, authority.open_root(federation))


@transaction.atomic
def _certify(kit: Kit, csr_pem: bytes, federation: Federation, root: authority.Root) -> Enrolment:
    site = kit.site
    key = ca.requested_key(csr_pem, site=site.name)
    used = Kit.objects.filter(pk=kit.pk, enrolled_at__isnull=True, revoked_at__isnull=True)
    if not used.update(enrolled_at=timezone.now()):
        return _answer(_issued_before(kit, key), federation)
    _check_key(site, key)
    pem = ca.sign_site_csr(
        *root,
        csr_pem,
        site=site.name,
        organisation=site.organisation,
        lifetime=settings.CONSILIUM_CERTIFICATE_LIFETIME,
    )
    certificate = _store_certificate(site, pem, kit=kit)
    _replace_others(certificate)
    Site.objects.filter(pk=site.pk, status=Site.Status.INVITED).update(status=Site.Status.ENROLLED)
    allow_list.promise()
    audit.record(
        act="certificate.issued",
        site=site.name,
        obj=[*_object(certificate), ("kit", str(kit.pk), "")],
        data={"not_after": certificate.not_after.isoformat()},
    )
    return _answer(certificate, federation)


def renew_certificate(*, certificate: Certificate) -> Enrolment:
    """The certificate the site should have: a new one for the same key from two thirds of its life on.

    Asked again, because the answer was lost or the site's file is damaged, it gives the same one again and
    issues nothing. ``certificate`` is the one that signed the request. Raises MasterKeyError.
    """
    federation = authority.the_federation()
    newest = _newest(certificate.site)
    if not _is_due(newest):
        return _answer(newest, federation)
    return _renew(certificate, federation, authority.open_root(federation))


@transaction.atomic
def _renew(certificate: Certificate, federation: Federation, root: authority.Root) -> Enrolment:
    site = Site.objects.select_for_update().get(pk=certificate.site_id)
    newest = _newest(site)
    if not _is_due(newest):  # another request of this site was first
        return _answer(newest, federation)
    pem = ca.renew_site_certificate(
        *root,
        certificate.pem.encode(),
        site=site.name,
        organisation=site.organisation,
        lifetime=settings.CONSILIUM_CERTIFICATE_LIFETIME,
    )
    renewed = _store_certificate(site, pem, renewal_of=certificate)
    allow_list.promise()
    audit.record(
        act="certificate.renewed",
        site=site.name,
        obj=_object(renewed),
        data={"not_after": renewed.not_after.isoformat(), "renewal_of": certificate.serial},
    )
    return _answer(renewed, federation)


@transaction.atomic
def note_certificate_used(*, certificate: Certificate) -> None:
    """The site has signed with a renewed certificate: those before it count no more."""
    if not _replace_others(certificate):
        return
    allow_list.promise()
    audit.record(act="certificate.replaced", site=certificate.site.name, obj=_object(certificate))


def _newest(site: Site) -> Certificate:
    return site.certificates.filter(revoked_at=None, replaced_at=None).latest("created")


def _is_due(certificate: Certificate) -> bool:
    return timezone.now() >= renew_from(x509.load_pem_x509_certificate(certificate.pem.encode()))


def _check_key(site: Site, key: RSAPublicKey) -> None:
    """A key that was revoked may be in somebody else's hands; a new kit does not bring it back."""
    for pem in site.certificates.filter(revoked_at__isnull=False).values_list("pem", flat=True):
        if x509.load_pem_x509_certificate(pem.encode()).public_key() == key:
            raise CertificateRequestError(
                _(
                    "This key belonged to a revoked certificate. Move flare/startup/client.key and "
                    "client.crt away and start again: a new key is made."
                )
            )


def _replace_others(certificate: Certificate) -> int:
    others = Certificate.objects.filter(site=certificate.site, revoked_at=None, replaced_at=None)
    older = others.exclude(pk=certificate.pk).filter(created__lte=certificate.created)
    return older.update(replaced_at=timezone.now())


def _issued_before(kit: Kit, key: RSAPublicKey) -> Certificate:
    """The link's certificate, for the key it was issued for."""
    now = timezone.now()
    certificate = kit.certificates.filter(revoked_at=None, replaced_at=None, not_after__gt=now).first()
    if certificate and x509.load_pem_x509_certificate(certificate.pem.encode()).public_key() == key:
        return certificate
    raise LinkUsedError(
        _(
            "This link was used already: a certificate was issued for another key. If that was not you, tell "
            "the administrator now; otherwise ask for a new invitation."
        )
    )


def _store_certificate(
    site: Site, pem: bytes, *, kit: Kit | None = None, renewal_of: Certificate | None = None
) -> Certificate:
    certificate = x509.load_pem_x509_certificate(pem)
    return Certificate.objects.create(
        site=site,
        kit=kit,
        renewal_of=renewal_of,
        serial=serial_hex(certificate),
        fingerprint_sha256=ca.fingerprint_sha256(pem),
        pem=pem.decode(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _object(certificate: Certificate) -> list[audit.Object]:
    return [("certificate", certificate.serial, certificate.fingerprint_sha256)]


def _answer(certificate: Certificate, federation: Federation) -> Enrolment:
    return Enrolment(
        certificate.pem,
        federation.root_certificate_pem,
        certificate.serial,
        certificate.not_after,
        selectors.peer_keys(certificate.site),
    )
