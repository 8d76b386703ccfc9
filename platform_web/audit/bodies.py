"""Bodies of entries: what may have to be erased. The entry holds SHA-256(0x02 ‖ salt ‖ canonical body) only.

Once body and salt are gone nobody can tell what the commitment was of, and the tree stays as it is.
"""

import hashlib
import hmac
import json
import secrets
import uuid
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from compliance.canonical import canonical_bytes
from platform_web.audit.models import AuditBody, AuditEvent

SALT_BYTES: Final = 32
NONCE_BYTES: Final = 12
KEY_ID: Final = "master-1"


@dataclass(frozen=True)
class Sealed:
    salt: bytes
    text: bytes

    @property
    def commitment(self) -> str:
        return hashlib.sha256(b"\x02" + self.salt + self.text).hexdigest()


def seal(body: dict[str, Any]) -> Sealed:
    """The canonical body and a fresh salt. Raises CanonicalError."""
    return Sealed(secrets.token_bytes(SALT_BYTES), canonical_bytes(body))


def keep(event: AuditEvent, sealed: Sealed) -> None:
    """Store it encrypted, bound to its entry: a body put beside another entry does not open."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    ciphertext = nonce + AESGCM(_key()).encrypt(nonce, sealed.text, event.event_id.bytes)
    AuditBody.objects.create(event_id=event.event_id, salt=sealed.salt, ciphertext=ciphertext, key_id=KEY_ID)


def body_of(event: AuditEvent, commitment: str) -> dict[str, Any] | None:
    """What stands in it; None when it was erased, or is not what the entry committed to."""
    row = AuditBody.objects.filter(event_id=event.event_id).first()
    if row is None:
        return None
    data = bytes(row.ciphertext)
    try:
        text = AESGCM(_key()).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], event.event_id.bytes)
    except InvalidTag:
        return None
    if not hmac.compare_digest(Sealed(bytes(row.salt), text).commitment, commitment):
        return None
    body: dict[str, Any] = json.loads(text)
    return body


def body_in(event_id: uuid.UUID | None) -> dict[str, Any]:
    """What stands in the body of this entry; empty when there is none, or it was erased."""
    event = AuditEvent.objects.filter(event_id=event_id).first() if event_id else None
    commitment = json.loads(bytes(event.leaf)).get("body_c", "") if event else ""
    return (body_of(event, commitment) or {}) if event and commitment else {}


def _key() -> bytes:
    return hmac.digest(settings.CONSILIUM_MASTER_KEY, b"consilium audit body", "sha256")
