"""The codes of a second factor: six digits of an app (RFC 6238), and recovery codes that work once."""

import base64
import hashlib
import hmac
import secrets
from typing import Final
from urllib.parse import quote

import segno
from django.conf import settings
from django.utils.safestring import SafeString
from django_otp.oath import TOTP

ISSUER: Final = "Consilium"
SECRET_BYTES: Final = 20  # RFC 4226, section 4, R6
DIGITS: Final = 6
EITHER_WAY: Final = 1  # steps of 30 s by which the clocks of phone and portal may differ
RECOVERY_CODES: Final = 10
RECOVERY_LENGTH: Final = 16  # of 32 signs: 80 bits
SIGNS: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: none looks like another
ALIKE: Final = str.maketrans("oil", "011")


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """In groups of four, to be typed where no camera is at hand."""
    text = base64.b32encode(secret).decode()
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def qr_code(secret: bytes, username: str) -> SafeString:
    """The drawing that an app scans, as SVG to stand in the page: nothing is fetched, no style attribute."""
    label = quote(f"{ISSUER}:{username}", safe=":")
    text = base64.b32encode(secret).decode()
    uri = f"otpauth://totp/{label}?secret={text}&issuer={ISSUER}"
    drawing = segno.make(uri, error="m").svg_inline(dark="#000", light="#fff", omitsize=True, svgclass="qr")
    return SafeString(drawing)


def step_of(secret: bytes, code: str, *, after: int) -> int | None:
    """The 30-second step whose code this is, later than ``after``; None for a wrong or used code."""
    digits = _plain(code)
    if not (digits.isascii() and digits.isdigit() and len(digits) == DIGITS):
        return None
    clock = TOTP(secret)
    if not clock.verify(int(digits), tolerance=EITHER_WAY, min_t=after + 1):
        return None
    return int(clock.t())


def new_recovery_codes() -> list[str]:
    """To be shown once; only :func:`recovery_digest` of each is stored."""
    return [_recovery_code() for _ in range(RECOVERY_CODES)]


def recovery_digest(code: str) -> str:
    """What is stored of a recovery code: 80 random bits under a key, so that no slow hash is needed."""
    key = hmac.digest(settings.CONSILIUM_MASTER_KEY, b"consilium recovery code", "sha256")
    text = _plain(code).lower().translate(ALIKE)
    return hmac.new(key, text.encode(errors="replace"), hashlib.sha256).hexdigest()


def _recovery_code() -> str:
    text = "".join(secrets.choice(SIGNS) for _ in range(RECOVERY_LENGTH))
    return "-".join(text[at : at + 4] for at in range(0, RECOVERY_LENGTH, 4))


def _plain(code: str) -> str:
    return "".join(code.split()).replace("-", "")
