"""Who stands behind a key: adverts signed by site certificates and checked against the root and the pins.

The server carries every advert, so it is believed in nothing: a peer's keys count only when a certificate
under the locally stored root signed them for this job and epoch. With pins, not even whoever runs the CA can
put a key of its own in a site's place.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secure_agg.errors import SecureAggregationError
from secure_agg.messages import ECDSA_P256, ED25519, RSA_PSS_SHA256, Advert, is_site_name

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

_RSA_BITS_MIN = 2048
_PSS = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)
_UNDERSTOOD = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension)


@dataclass(frozen=True)
class Identity:
    """A site's certificate and the key behind it, which signs nothing here but adverts."""

    name: str
    private_key: PrivateKey = field(repr=False)
    chain_der: tuple[bytes, ...]

    def sign_advert(self, advert: Advert) -> Advert:
        """The advert under this identity's certificate, with the algorithm that fits the key."""
        key, body = self.private_key, replace(advert, name=self.name, chain=self.chain_der)
        if isinstance(key, rsa.RSAPrivateKey):
            body = replace(body, sigalg=RSA_PSS_SHA256)
            return replace(body, sig=key.sign(body.signed_body(), _PSS, SHA256()))
        if isinstance(key, Ed25519PrivateKey):
            body = replace(body, sigalg=ED25519)
            return replace(body, sig=key.sign(body.signed_body()))
        body = replace(body, sigalg=ECDSA_P256)
        return replace(body, sig=key.sign(body.signed_body(), ec.ECDSA(SHA256())))


@dataclass(frozen=True)
class Trust:
    """What a site believes without asking the server: the root, and the peers it has met by telephone."""

    root_der: bytes
    pins: Mapping[str, str] | None = None
    denied_serials: frozenset[int] = frozenset()
    server_name: str = "server"


def fingerprint(certificate_der: bytes) -> str:
    """SHA-256 of the certificate's public key, in hex: it survives a renewal that keeps the key."""
    public = x509.load_der_x509_certificate(certificate_der).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def is_pinned(name: str, certificate_der: bytes, pins: Mapping[str, str]) -> bool:
    """Whether ``pins`` hold exactly this key for ``name``."""
    pinned = pins.get(name, "").lower()
    found = fingerprint(certificate_der)
    return _FINGERPRINT.fullmatch(pinned) is not None and hmac.compare_digest(pinned, found)


def verify_advert(advert: Advert, trust: Trust, *, job_id: str, epoch: int, now: int) -> None:
    """Raise unless ``advert`` binds its keys to its site for this job and epoch (specification 4.3, step 2).

    Pins are not looked at here: a site pins its peers, not itself (``roster.verify_roster``).
    """
    if not is_site_name(advert.name) or advert.name == trust.server_name:
        _refuse(advert, "its name is not that of a site")
    if (advert.job_id, advert.epoch) != (job_id, epoch):
        raise SecureAggregationError(
            "E_STALE_ADVERT", site=advert.name, reason="it names another job or epoch"
        )
    if advert.expiry < now:
        raise SecureAggregationError("E_STALE_ADVERT", site=advert.name, reason="it has expired")
    if len(advert.chain) != 1:  # our root has path length 0: it signs the sites itself
        _refuse(advert, "the chain is not exactly the site's certificate")
    leaf = _certificate_of(advert, trust, datetime.fromtimestamp(now, UTC))
    try:
        _check_signature(leaf.public_key(), advert)
    except (InvalidSignature, *_UNREADABLE):
        _refuse(advert, "the signature over its keys is wrong")


def _refuse(advert: Advert, reason: str) -> None:
    raise SecureAggregationError("E_KEY_AUTH", site=advert.name, reason=reason)


def _certificate_of(advert: Advert, trust: Trust, now: datetime) -> x509.Certificate:
    """The advert's certificate, once it is one that the root gave to this site and that still counts."""
    root = x509.load_der_x509_certificate(trust.root_der)
    try:
        leaf = x509.load_der_x509_certificate(advert.chain[0])
        leaf.verify_directly_issued_by(root)
        purpose_fault = _purpose_fault(leaf)
    except (InvalidSignature, *_UNREADABLE):
        raise SecureAggregationError(
            "E_KEY_AUTH", site=advert.name, reason="the root did not sign the certificate"
        ) from None
    for certificate in (root, leaf):
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            _refuse(advert, "a certificate has expired or is not valid yet")
    if leaf.serial_number in trust.denied_serials:
        _refuse(advert, "the certificate was revoked")
    if purpose_fault:
        _refuse(advert, purpose_fault)
    if [name.value for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] != [advert.name]:
        _refuse(advert, "the certificate was given to another name")
    return leaf


def _purpose_fault(leaf: x509.Certificate) -> str | None:
    """Why a certificate under the root is not a site's: the root also signs servers and administrators."""
    if leaf.subject.get_attributes_for_oid(NameOID.UNSTRUCTURED_NAME):
        return "the certificate is an administrator's"
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            return "the certificate is an authority's"
        if isinstance(value, x509.KeyUsage) and not value.digital_signature:
            return "the certificate's key may not sign"
        if isinstance(value, x509.ExtendedKeyUsage) and list(value) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
            return "the certificate is not a client's"
        if extension.critical and not isinstance(value, _UNDERSTOOD):
            return "the certificate has a critical extension that is unknown here"
    return None


def _check_signature(key: object, advert: Advert) -> None:
    """Raises InvalidSignature or TypeError unless the certificate's key signed the advert's body."""
    signature, body = advert.sig, advert.signed_body()
    if isinstance(key, rsa.RSAPublicKey) and advert.sigalg == RSA_PSS_SHA256:
        if key.key_size < _RSA_BITS_MIN:
            raise InvalidSignature
        key.verify(signature, body, _PSS, SHA256())
    elif isinstance(key, ec.EllipticCurvePublicKey) and advert.sigalg == ECDSA_P256:
        if not isinstance(key.curve, ec.SECP256R1):
            raise InvalidSignature
        key.verify(signature, body, ec.ECDSA(SHA256()))
    elif isinstance(key, Ed25519PublicKey) and advert.sigalg == ED25519:
        key.verify(signature, body)
    else:
        raise InvalidSignature
