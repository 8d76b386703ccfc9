"""The passphrase of the site's console: made here, shown once, kept only as a scrypt hash (0600)."""

import base64
import binascii
import hashlib
import json
import secrets

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fl_jobs.tensor_files import write_bytes
from site_kits.site_home import SiteHome, read_state

MAX_TYPED_CHARACTERS = 200
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is mistaken for another
_GROUPS, _GROUP = 5, 4  # 99 bits
_COST = {"n": 2**15, "r": 8, "p": 1}  # 32 MiB and about 80 ms


def new_passphrase(home: SiteHome) -> str:
    """A new passphrase, which replaces the one before; it can be read nowhere afterwards."""
    groups = ["".join(secrets.choice(_LETTERS) for _letter in range(_GROUP)) for _group in range(_GROUPS)]
    salt = secrets.token_bytes(16)
    record = {"salt": _text(salt), "hash": _text(_kdf(salt).derive("".join(groups).encode()))}
    write_bytes(home.console_passphrase, json.dumps(record).encode(), mode=0o600)
    return "-".join(groups)


def has_passphrase(home: SiteHome) -> bool:
    """Whether somebody can sign in to the console at all."""
    return bool(read_state(home.console_passphrase))


def passphrase_mark(home: SiteHome) -> str:
    """Changes with the passphrase, so that whoever signed in with a former one is signed out."""
    return hashlib.sha256(json.dumps(read_state(home.console_passphrase)).encode()).hexdigest()


def check_passphrase(home: SiteHome, typed: str) -> bool:
    """Whether ``typed`` is the passphrase; blanks, hyphens and capitals do not matter."""
    record = read_state(home.console_passphrase)
    plain = "".join(typed[:MAX_TYPED_CHARACTERS].split()).replace("-", "").lower()
    try:
        salt, expected = (base64.b64decode(record[name], validate=True) for name in ("salt", "hash"))
        _kdf(salt).verify(plain.encode(), expected)
    except (KeyError, TypeError, binascii.Error, InvalidKey):
        return False
    return True


def _kdf(salt: bytes) -> Scrypt:
    return Scrypt(salt=salt, length=32, **_COST)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
