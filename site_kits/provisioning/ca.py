"""The federation's certificate authority: one root, RSA leaves, nothing on disk.

RSA everywhere because NVFlare 2.9 signs its registration with RSA-PSS (an EC key crashes its client).
NVFlare reads CN, O and, of administrators, unstructuredName (the role). Keys in, PEM out: who seals the
root key and who writes files is the caller's business.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from secure_agg.identity import fingerprint
from site_kits.certificate_dates import CLOCK_SKEW
from site_kits.errors import CertificateRequestError, ForeignNameError, ProvisioningError
from site_kits.translation import _

ROOT_KEY_BITS = 3072  # lives for years; NIST SP 800-57 wants more than 112 bits of strength after 2030
LEAF_KEY_BITS = 2048
SITE_LIFETIME_MAX = timedelta(days=90)
SITE_LIFETIME_MIN = timedelta(seconds=10)
CSR_BYTES_MAX = 16_384
_ALLOWED_KEY_BITS = (2048, 3072, 4096)


def create_ca(name: str, days: int = 3650) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """Make the root key and its self-signed certificate (CN = ``name``, at most 64 characters)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=ROOT_KEY_BITS)
    subject = _name(name)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return key, certificate


def sign_site_csr(
    ca_key: rsa.RSAPrivateKey,
    ca_cert: x509.Certificate,
    csr_pem: bytes,
    *,
    site: str,
    organisation: str,
    lifetime: timedelta = SITE_LIFETIME_MAX,
) -> bytes:
    """Return the certificate of a site that made its own key (PEM; 10 seconds to 90 days).

    Subject and extensions are ours; of the request only the public key is used. Raises as requested_key.
    """
    key = requested_key(csr_pem, site=site)
    return _sign_site(ca_key, ca_cert, key, site=site, organisation=organisation, lifetime=lifetime)


def renew_site_certificate(
    ca_key: rsa.RSAPrivateKey,
    ca_cert: x509.Certificate,
    certificate_pem: bytes,
    *,
    site: str,
    organisation: str,
    lifetime: timedelta = SITE_LIFETIME_MAX,
) -> bytes:
    """Return another certificate for the key of ``certificate_pem``. Who asks, the caller has checked."""
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise ProvisioningError("The certificate to renew does not hold an RSA key.")
    return _sign_site(ca_key, ca_cert, key, site=site, organisation=organisation, lifetime=lifetime)


def _sign_site(
    ca_key: rsa.RSAPrivateKey,
    ca_cert: x509.Certificate,
    key: rsa.RSAPublicKey,
    *,
    site: str,
    organisation: str,
    lifetime: timedelta,
) -> bytes:
    if not SITE_LIFETIME_MIN <= lifetime <= SITE_LIFETIME_MAX:
        raise ProvisioningError(f"A site certificate lasts 10 seconds to 90 days, not {lifetime}.")
    subject = _name(site, organisation)
    certificate = _sign_leaf(ca_key, ca_cert, key, subject, (site,), lifetime, server=False)
    return certificate.public_bytes(Encoding.PEM)


def requested_key(csr_pem: bytes, *, site: str) -> rsa.RSAPublicKey:
    """Return the key a site's certificate request is for; the request's CN must be ``site``.

    Raises CertificateRequestError for a malformed request, another name or an unusable key.
    """
    if len(csr_pem) > CSR_BYTES_MAX:
        raise CertificateRequestError(_("The certificate request is too large; run start.sh again."))
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        valid, public_key = request.is_signature_valid, request.public_key()
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateRequestError(
            _("This is not a readable certificate request in PEM form; run start.sh again.")
        ) from error
    if not isinstance(public_key, rsa.RSAPublicKey) or public_key.key_size not in _ALLOWED_KEY_BITS:
        raise CertificateRequestError(
            _(
                "The key of the request is not RSA of 2048, 3072 or 4096 bits, which NVFlare needs; "
                "delete it and run start.sh again."
            )
        )
    if not valid:
        raise CertificateRequestError(_("The request is not signed by its own key; run start.sh again."))
    if [name.value for name in names] != [site]:
        raise ForeignNameError(
            _(
                "The request asks for another name than {site}; use the kit that was made for this site."
            ).format(site=site)
        )
    return public_key


def issue_service_identity(
    ca_key: rsa.RSAPrivateKey, ca_cert: x509.Certificate, name: str, role: str, org: str, days: int
) -> tuple[bytes, bytes]:
    """Return (key PEM, certificate PEM) of an NVFlare administrator; NVFlare reads the role from it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=LEAF_KEY_BITS)
    certificate = _sign_leaf(
        ca_key, ca_cert, key.public_key(), _name(name, org, role), (name,), timedelta(days=days), server=False
    )
    return _key_pem(key), certificate.public_bytes(Encoding.PEM)


def issue_server_certificate(
    ca_key: rsa.RSAPrivateKey,
    ca_cert: x509.Certificate,
    name: str,
    hosts: Sequence[str],
    days: int = 730,
) -> tuple[bytes, bytes]:
    """Return (key PEM, certificate PEM) of a TLS server: CN = ``name``, SAN = ``hosts``."""
    if not hosts:
        raise ProvisioningError("A server certificate needs the host names by which it is reached.")
    key = rsa.generate_private_key(public_exponent=65537, key_size=LEAF_KEY_BITS)
    certificate = _sign_leaf(
        ca_key, ca_cert, key.public_key(), _name(name), hosts, timedelta(days=days), server=True
    )
    return _key_pem(key), certificate.public_bytes(Encoding.PEM)


def fingerprint_sha256(certificate_pem: bytes) -> str:
    """Return the SHA-256 of the certificate's DER form, in hex."""
    return x509.load_pem_x509_certificate(certificate_pem).fingerprint(SHA256()).hex()


def public_key_sha256(certificate_pem: bytes) -> str:
    """Return what sites pin: the SHA-256 of the certificate's public key, in hex."""
    return fingerprint(x509.load_pem_x509_certificate(certificate_pem).public_bytes(Encoding.DER))


def _sign_leaf(
    ca_key: rsa.RSAPrivateKey,
    ca_cert: x509.Certificate,
    public_key: rsa.RSAPublicKey,
    subject: x509.Name,
    hosts: Sequence[str],
    lifetime: timedelta,
    *,
    server: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    if ca_cert.not_valid_after_utc <= now:
        raise ProvisioningError("The federation's root certificate has expired; nothing can be issued.")
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca_cert.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + lifetime, ca_cert.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(enciphers_keys=server), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, SHA256())
    )


def _name(common_name: str, organisation: str = "", role: str = "") -> x509.Name:
    parts = (
        (NameOID.COMMON_NAME, common_name),
        (NameOID.ORGANIZATION_NAME, organisation),
        (NameOID.UNSTRUCTURED_NAME, role),
    )
    return x509.Name([_attribute(oid, value) for oid, value in parts if value])


def _attribute(oid: ObjectIdentifier, value: str) -> "x509.NameAttribute[str]":
    # X.520 upper bound 64; a longer name would be refused by other TLS stacks, not by this one
    if len(value) > 64 or not value.isprintable():
        raise ProvisioningError(f"The name {value[:64]!r} is longer than 64 characters or not printable.")
    return x509.NameAttribute(oid, value)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise ProvisioningError(f"{host!r} is neither a host name nor an address.") from error


def _key_usage(*, signs_certificates: bool = False, enciphers_keys: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=enciphers_keys,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
