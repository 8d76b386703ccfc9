"""DSSE envelopes v1 (github.com/secure-systems-lab/dsse): what is signed says its own type. Ed25519 only."""

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from compliance.evidence.archive import json_bytes


class EnvelopeError(ValueError):
    """The envelope is malformed, of another type, or not signed by this key."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: lengths first, so that no two pairs give the same bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 public bytes: a hint which key to try, no proof."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign_envelope(payload_type: str, payload: bytes, key: Ed25519PrivateKey) -> dict[str, Any]:
    """The envelope as JSON holds it."""
    signature = key.sign(pae(payload_type, payload))
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()},
        ],
    }


def envelope_bytes(payload_type: str, payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """The envelope as a file."""
    return json_bytes(sign_envelope(payload_type, payload, key))


def open_envelope(data: bytes, payload_type: str, key: Ed25519PublicKey) -> bytes:
    """The payload, proven to be of ``payload_type`` and signed by ``key``. Raises EnvelopeError."""
    try:
        envelope: Any = json.loads(data)
        payload = base64.b64decode(envelope["payload"], validate=True)
        bodies = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        kind = envelope["payloadType"]
    except (KeyError, TypeError, ValueError) as error:
        raise EnvelopeError("This is no DSSE envelope.") from error
    if kind != payload_type:
        raise EnvelopeError(f"The envelope holds {kind!r}, not {payload_type}.")
    if not any(_fits(key, body, pae(payload_type, payload)) for body in bodies):
        raise EnvelopeError("No signature of the envelope is of this key.")
    return payload


def _fits(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
