"""Certificates: issued for the key a site made itself."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation import authority, selectors
from platform_web.federation.errors import LinkUsedError
from platform_web.federation.models import Certificate, Federation, Kit, Site
from platform_web.federation.services.pins import check_pin
from site_kits.errors import ForeignNameError
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

    The same link with the same key gives the same certificate again: the first answer may have been lost
    on the wire, and only the holder of that key can use it. Raises EnrolmentTokenError (which does not say
    whether the link is unknown or over), PinWrongError, KitLockedError, CertificateRequestError for a bad
    request or another name, MasterKeyError.
    """
    kit = selectors.kit_for_enrolment(token)
    check_pin(kit=kit, pin=pin)
    if kit.site.name != name:
        raise ForeignNameError(
            _("The invitation is for another site than %(name)s. Start the kit that came with this link.")
            % {"name": name}
        )
    return _certify(kit, csr_pem.encode(errors="replace"))


@transaction.atomic
def _certify(kit: Kit, csr_pem: bytes) -> Enrolment:
    site, federation = kit.site, authority.the_federation()
    key = ca.requested_key(csr_pem, site=site.name)
    used = Kit.objects.filter(pk=kit.pk, enrolled_at__isnull=True, revoked_at__isnull=True)
    if not used.update(enrolled_at=timezone.now()):
        return _enrolment(_issued_before(kit, key), federation)
    root_key, root = authority.open_root(federation)
    pem = ca.sign_site_csr(root_key, root, csr_pem, site=site.name, organisation=site.organisation)
    certificate = _store_certificate(kit, pem)
    Site.objects.filter(pk=site.pk, status=Site.Status.INVITED).update(status=Site.Status.ENROLLED)
    audit.record(
        act="certificate.issued",
        site=site.name,
        obj=[("certificate", certificate.serial, certificate.fingerprint_sha256), ("kit", str(kit.pk), "")],
        data={"not_after": certificate.not_after.isoformat()},
    )
    return _enrolment(certificate, federation)


def _enrolment(certificate: Certificate, federation: Federation) -> Enrolment:
    return Enrolment(
        certificate.pem,
        federation.root_certificate_pem,
        certificate.serial,
        certificate.not_after,
        selectors.peer_keys(certificate.site),
    )


def _issued_before(kit: Kit, key: RSAPublicKey) -> Certificate:
    """The link's certificate, for the key it was issued for."""
    now = timezone.now()
    certificate = kit.certificates.filter(revoked_at__isnull=True, not_after__gt=now).first()
    if certificate and x509.load_pem_x509_certificate(certificate.pem.encode()).public_key() == key:
        return certificate
    raise LinkUsedError(
        _(
            "This link was used already: a certificate was issued for another key. If that was not you, tell "
            "the administrator now; otherwise ask for a new invitation."
        )
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
