"""Is the master key the right one, and tokens and PINs that work once."""

import hashlib
import hmac
import secrets

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password

from platform_web.accounts.sealing import seal as seal
from platform_web.accounts.sealing import unseal as unseal
from site_kits.errors import MasterKeyError

TOKEN_BYTES = 32
PIN_DIGITS = 8
KEY_CHECK = "key-check"


def make_key_check() -> bytes:
    """A value that only the same master key opens; kept so that a wrong key is noticed at once."""
    return seal(KEY_CHECK, b"consilium")


def check_master_key(key_check: bytes | memoryview) -> None:
    """Raises MasterKeyError, in one sentence, when the portal was set up with another master key."""
    try:
        unseal(KEY_CHECK, key_check)
    except MasterKeyError as error:
        raise MasterKeyError(
            "CONSILIUM_MASTER_KEY is not the key this portal was set up with. Set the original key; "
            "without it nobody can open the certificate authority, and a new portal must be set up."
        ) from error


def new_token() -> str:
    """32 random bytes as text for a link or a file. Only :func:`token_sha256` of it is ever stored."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_sha256(token: str) -> str:
    """What is stored of a token. 256 random bits cannot be guessed, so no slow hash is needed."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def new_pin() -> str:
    """Eight decimal digits, told to the site by telephone. Only :func:`pin_hash` of them is ever stored."""
    return f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}d}"


def pin_hash(pin: str) -> str:
    """Salted and slow; keyed with the master key, since 10**8 PINs are tried in a day from a stolen table."""
    return make_password(_keyed(pin))


def is_pin(pin: str, stored: str) -> bool:
    """Whether ``pin`` (blanks and hyphens do not count) is the one of the hash, in constant time."""
    return check_password(_keyed("".join(pin.split()).replace("-", "")), stored)


def _keyed(pin: str) -> str:
    key = hmac.digest(settings.CONSILIUM_MASTER_KEY, b"consilium invitation pin", "sha256")
    return hmac.new(key, pin.encode(errors="replace"), hashlib.sha256).hexdigest()
