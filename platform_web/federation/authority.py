"""The federation's keys, opened when they are needed and never kept."""

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from django.utils.translation import gettext as _

from platform_web.federation.errors import SetupError
from platform_web.federation.models import Federation, ServiceIdentity, TicketKey
from platform_web.federation.secrets import seal, unseal
from site_kits.errors import MasterKeyError
from site_kits.manifest import TicketKeyEntry

if TYPE_CHECKING:
    from site_kits.provisioning.flare_kit import FederationFacts

Root = tuple[rsa.RSAPrivateKey, x509.Certificate]

ROOT_KEY = "federation-root-key"


def the_federation() -> Federation:
    """The one row. Raises SetupError before ``setup_platform`` has run."""
    federation = Federation.objects.order_by("pk").first()
    if federation is None:
        raise SetupError(_("The portal is not set up yet. Run: python manage.py setup_platform"))
    return federation


def facts(federation: Federation) -> "FederationFacts":
    """The federation as NVFlare's files need it. For workers and commands: this loads NVFlare."""
    from site_kits.provisioning.flare_kit import FederationFacts

    return FederationFacts(
        project=federation.name,
        server_name=federation.server_name,
        host=federation.flare_host,
        port=federation.flare_port,
    )


def seal_root_key(key: rsa.RSAPrivateKey) -> bytes:
    """The root key, sealed for its row."""
    return seal(ROOT_KEY, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def open_root(federation: Federation) -> Root:
    """Root key and certificate; 0.13 s that no transaction should hold. Raises MasterKeyError."""
    key = load_der_private_key(unseal(ROOT_KEY, federation.root_key_sealed), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise MasterKeyError("The sealed root key is not an RSA key. Restore the database from its backup.")
    return key, x509.load_pem_x509_certificate(federation.root_certificate_pem.encode())


def seal_identity_key(name: str, key_pem: bytes) -> bytes:
    """A service identity's key, sealed for its row."""
    return seal(f"identity:{name}", key_pem)


def open_identity_key(identity: ServiceIdentity) -> bytes:
    """The PEM of a service identity's key: for the worker that talks to NVFlare. Raises MasterKeyError."""
    return unseal(f"identity:{identity.name}", identity.key_sealed)


def seal_ticket_key(kid: str, key: Ed25519PrivateKey) -> bytes:
    """A ticket key, sealed for its row."""
    return seal(f"ticket:{kid}", key.private_bytes_raw())


def open_ticket_key() -> tuple[str, Ed25519PrivateKey]:
    """(kid, key) of the newest ticket key in use. Raises SetupError or MasterKeyError."""
    row = TicketKey.objects.filter(retired_at__isnull=True).order_by("-created").first()
    if row is None:
        raise SetupError(_("The portal has no ticket key. Run: python manage.py setup_platform"))
    return row.kid, Ed25519PrivateKey.from_private_bytes(unseal(f"ticket:{row.kid}", row.private_key_sealed))


def public_ticket_keys() -> list[TicketKeyEntry]:
    """The public halves that sites accept, newest first."""
    rows = TicketKey.objects.filter(retired_at__isnull=True).order_by("-created")[:8]
    return [TicketKeyEntry(kid=row.kid, public_key=row.public_key) for row in rows]
