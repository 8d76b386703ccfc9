"""Certificates: issued for the key a site made itself."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation import authority, selectors
from platform_web.federation.errors import (
    EnrolmentTokenError,
)
from platform_web.federation.models import Certificate, Kit, Site
from site_kits.provisioning import ca
from site_kits.signing import serial_hex


@dataclass(frozen=True)
class Enrolment:
    """What a site receives for its request."""

    certificate_pem: str
    root_ca_pem: str
    serial: str
    not_after: datetime


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
