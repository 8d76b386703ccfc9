"""Sealing secrets with the master key, for storage in a row.

AES-256-GCM with a random 96-bit nonce; the secret's name is associated data, so that one sealed row cannot
stand in for another.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from site_kits.errors import MasterKeyError

NONCE_BYTES = 12


def seal(name: str, secret: bytes) -> bytes:
    """``secret`` encrypted for storage under ``name``."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + _cipher().encrypt(nonce, secret, name.encode())


def unseal(name: str, sealed: bytes | memoryview) -> bytes:
    """The secret again. Raises MasterKeyError for another master key or an altered row."""
    sealed = bytes(sealed)
    try:
        return _cipher().decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode())
    except (InvalidTag, ValueError) as error:
        raise MasterKeyError(
            f"The secret {name!r} cannot be opened: CONSILIUM_MASTER_KEY is not the key it was sealed with, "
            "or the row was altered. Start the portal with the master key it was set up with."
        ) from error


def _cipher() -> AESGCM:
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"consilium sealed secrets v1")
    return AESGCM(kdf.derive(settings.CONSILIUM_MASTER_KEY))
