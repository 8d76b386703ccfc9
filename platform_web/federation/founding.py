"""Setting the portal up: rows first, then files. Done again, it changes nothing that still fits."""

import base64
import secrets
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from platform_web.audit import services as audit
from platform_web.federation import allow_list, authority, places
from platform_web.federation.models import Federation, ServiceIdentity, TicketKey
from platform_web.federation.secrets import check_master_key, make_key_check
from site_kits.provisioning import ca

IDENTITIES = {"ops": "project_admin", "runs": "lead"}
IDENTITY_DAYS = 365
RENEW_BEFORE = timedelta(days=30)


@transaction.atomic
def found_federation() -> Federation:
    """The federation's row, CA, identities and ticket key; addresses follow the settings.

    Raises MasterKeyError when the portal was set up with another master key.
    """
    addresses = {
        "flare_host": settings.CONSILIUM_FLARE_HOST,
        "flare_port": settings.CONSILIUM_FLARE_PORT,
        "agents_url": settings.CONSILIUM_AGENTS_URL,
        "web_origin": settings.CONSILIUM_WEB_ORIGIN,
    }
    federation = Federation.objects.order_by("pk").first()
    if federation is None:
        federation = _new_federation(addresses)
    else:
        check_master_key(federation.key_check)
        Federation.objects.filter(pk=federation.pk).update(**addresses)
        federation.refresh_from_db()
    _ensure_identities(federation)
    _ensure_ticket_key()
    return federation


def _new_federation(addresses: dict[str, object]) -> Federation:
    name = settings.CONSILIUM_FEDERATION
    key, certificate = ca.create_ca(name)
    federation = Federation.objects.create(
        name=name,
        server_name=settings.CONSILIUM_FLARE_HOST,
        root_certificate_pem=certificate.public_bytes(Encoding.PEM).decode(),
        root_key_sealed=authority.seal_root_key(key),
        key_check=make_key_check(),
        **addresses,
    )
    fingerprint = ca.fingerprint_sha256(federation.root_certificate_pem.encode())
    audit.record(
        act="platform.set_up", obj=[("certificate", "root", fingerprint)], data={"fingerprint": fingerprint}
    )
    return federation


def _ensure_identities(federation: Federation) -> None:
    for name, role in IDENTITIES.items():
        identity = ServiceIdentity.objects.filter(name=name).first()
        if identity is not None and not _ends_soon(identity.certificate_pem.encode()):
            continue
        root_key, root = authority.open_root(federation)
        key_pem, certificate_pem = ca.issue_service_identity(
            root_key, root, name, role, federation.name, IDENTITY_DAYS
        )
        sealed = authority.seal_identity_key(name, key_pem)
        ServiceIdentity.objects.update_or_create(
            name=name,
            defaults={"role": role, "certificate_pem": certificate_pem.decode(), "key_sealed": sealed},
        )


def _ensure_ticket_key() -> None:
    if TicketKey.objects.filter(retired_at__isnull=True).exists():
        return
    key, kid = Ed25519PrivateKey.generate(), secrets.token_hex(8)
    TicketKey.objects.create(
        kid=kid,
        public_key=base64.b64encode(key.public_key().public_bytes_raw()).decode(),
        private_key_sealed=authority.seal_ticket_key(kid, key),
    )


def write_files(federation: Federation) -> None:
    """Server kit and TLS certificate of the agents' door; pairs of keys that still fit are kept."""
    from site_kits.provisioning.flare_kit import write_server_kit

    root = federation.root_certificate_pem.encode()
    folder = places.private_folder(places.server_kit())
    key, certificate = _server_pair(
        federation,
        folder / "startup" / "server.key",
        folder / "startup" / "server.crt",
        federation.server_name,
        [federation.server_name, federation.flare_host],
    )
    write_server_kit(folder, authority.facts(federation), key, certificate, root)
    tls = places.private_folder(places.tls())
    host = urlsplit(federation.agents_url).hostname or "localhost"
    key, certificate = _server_pair(
        federation, tls / "agents.key", tls / "agents.crt", host, [host, "localhost", "127.0.0.1"]
    )
    places.write_private(tls / "agents.key", key)
    places.write_private(tls / "agents.crt", certificate)
    allow_list.write()


def _server_pair(
    federation: Federation, key: Path, certificate: Path, name: str, hosts: list[str]
) -> tuple[bytes, bytes]:
    """The pair on disk while it fits, else a new one. ``hosts`` may repeat."""
    hosts = sorted(set(hosts))
    if key.is_file() and certificate.is_file():
        pem = certificate.read_bytes()
        if _fits(pem, federation, name, hosts) and not _ends_soon(pem):
            return key.read_bytes(), pem
    root_key, root = authority.open_root(federation)
    return ca.issue_server_certificate(root_key, root, name, hosts)


def _fits(pem: bytes, federation: Federation, name: str, hosts: list[str]) -> bool:
    certificate = x509.load_pem_x509_certificate(pem)
    root = x509.load_pem_x509_certificate(federation.root_certificate_pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {str(general.value) for general in names}
    return (
        _is_issued_by(certificate, root)
        and certificate.subject.rfc4514_string() == f"CN={name}"
        and set(hosts) <= known
    )


def _is_issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _ends_soon(pem: bytes) -> bool:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc - timezone.now() < RENEW_BEFORE
