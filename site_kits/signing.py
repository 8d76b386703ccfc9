"""Signed requests of a site's agent: RSA-PSS over method, path, body digest, time and nonce.

The signature binds one request of one site at one moment; a replay inside the window is refused by the
portal, which keeps the nonces it has seen.
"""

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from site_kits.clock import WINDOW_S, span
from site_kits.errors import SignatureError
from site_kits.translation import _

CONTEXT = "consilium-agent-v1"
HEADERS = (
    "X-Consilium-Site",
    "X-Consilium-Serial",
    "X-Consilium-Time",
    "X-Consilium-Nonce",
    "X-Consilium-Signature",
)
NONCE = re.compile(r"[0-9a-f]{32}")
SERIAL = re.compile(r"[0-9a-f]{1,40}")
SITE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
TIME = re.compile(r"[0-9]{1,12}")
_PADDING = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)


@dataclass(frozen=True)
class SignedHeaders:
    """The five headers after their form has been checked; nothing is proven yet."""

    site: str
    serial: str
    time: int
    nonce: str
    signature: bytes


def serial_hex(certificate: x509.Certificate) -> str:
    """The serial number as it stands in ``X-Consilium-Serial``: hex, lower case, no leading zeros."""
    return f"{certificate.serial_number:x}"


def sign_request(
    key: rsa.RSAPrivateKey, *, site: str, serial: str, method: str, path: str, body: bytes
) -> dict[str, str]:
    """The five headers for one request. ``path`` includes the query string."""
    moment, nonce = int(time.time()), secrets.token_hex(16)
    signature = sign_bytes(key, _signed_bytes(site, method, path, body, moment, nonce))
    values = (site, serial, str(moment), nonce, base64.b64encode(signature).decode())
    return dict(zip(HEADERS, values, strict=True))


def read_headers(headers: Mapping[str, str]) -> SignedHeaders:
    """The five headers, checked for form only. Raises SignatureError."""
    values = {name.lower(): value for name, value in headers.items()}
    site, serial, moment, nonce, signature = (values.get(name.lower(), "") for name in HEADERS)
    if not (
        SITE.fullmatch(site)
        and SERIAL.fullmatch(serial)
        and TIME.fullmatch(moment)
        and NONCE.fullmatch(nonce)
    ):
        raise SignatureError(
            _("The request is not signed. Requests to this address come from a site's agent.")
        )
    try:
        raw = base64.b64decode(signature[:1024], validate=True)
    except ValueError as error:
        raise SignatureError(_("The signature is not base64.")) from error
    return SignedHeaders(site, serial, int(moment), nonce, raw)


def verify_request(
    cert: x509.Certificate, headers: Mapping[str, str], *, method: str, path: str, body: bytes, now: float
) -> SignedHeaders:
    """The headers, proven to come from the holder of ``cert``. Raises SignatureError.

    Checks form, time (±120 s), serial number, validity dates and signature. NOT checked: that the certificate
    is the federation's, that it is not revoked and that the nonce is new; the portal does that.
    """
    signed = read_headers(headers)
    if abs(now - signed.time) > WINDOW_S:
        is_behind = signed.time < now
        sentence = (
            _("The site's clock is {span} behind the portal's; over {most} s are refused. Set its clock.")
            if is_behind
            else _(
                "The site's clock is {span} ahead of the portal's; over {most} s are refused. Set its clock."
            )
        )
        raise SignatureError(sentence.format(span=span(now - signed.time), most=WINDOW_S))
    if signed.serial != serial_hex(cert):
        raise SignatureError(_("The request names another certificate than the one it is checked with."))
    if not cert.not_valid_before_utc.timestamp() <= now < cert.not_valid_after_utc.timestamp():
        raise SignatureError(
            _("The site's certificate is not valid now. Ask the administrator for a new kit.")
        )
    message = _signed_bytes(signed.site, method, path, body, signed.time, signed.nonce)
    verify_bytes(cert, message, signed.signature)
    return signed


def sign_bytes(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """RSA-PSS with SHA-256; the message begins with what it is, so that none passes for another kind."""
    return key.sign(message, _PADDING, SHA256())


def verify_bytes(cert: x509.Certificate, message: bytes, signature: bytes) -> None:
    """Raises SignatureError unless the holder of ``cert`` signed ``message``."""
    public_key = cert.public_key()
    if not isinstance(public_key, rsa.RSAPublicKey):
        raise SignatureError(_("The site's certificate does not hold an RSA key."))
    try:
        public_key.verify(signature, message, _PADDING, SHA256())
    except InvalidSignature as error:
        raise SignatureError(_("The signature does not fit this request.")) from error


def _signed_bytes(site: str, method: str, path: str, body: bytes, moment: int, nonce: str) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return "\n".join((CONTEXT, method.upper(), path, digest, str(moment), nonce, site)).encode()
