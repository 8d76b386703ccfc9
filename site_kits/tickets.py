"""Tickets: the portal tells a site's inference "this person may ask this model for the next five minutes".

``base64url(header and claims in JSON).base64url(Ed25519 signature)``; one algorithm, so nothing to negotiate.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fl_jobs.packaging.spec import NAME_PATTERN, canonical_json
from site_kits.errors import SignatureError

LIFETIME_S = 300
CLOCK_SKEW_S = 30
MAX_CHARACTERS = 4096
CONTEXT = b"consilium-ticket-v1\n"


class TicketClaims(BaseModel):
    """What a ticket says. ``subject`` is a pseudonym; times are Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    site: str = Field(pattern=NAME_PATTERN)
    study: str = Field(pattern=NAME_PATTERN)
    promotion: int | str
    subject: str = Field(min_length=1, max_length=64)
    iat: int
    exp: int
    nonce: str = Field(pattern=r"^[0-9a-f]{32}$")


class _Signed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kid: str = Field(max_length=32)
    claims: TicketClaims


def new_claims(*, site: str, study: str, promotion: int | str, subject: str, now: float) -> TicketClaims:
    """Claims for a ticket that works from now for five minutes."""
    return TicketClaims(
        site=site,
        study=study,
        promotion=promotion,
        subject=subject,
        iat=int(now),
        exp=int(now) + LIFETIME_S,
        nonce=secrets.token_hex(16),
    )


def issue_ticket(private_key: Ed25519PrivateKey, kid: str, claims: TicketClaims) -> str:
    """The ticket as text."""
    body = canonical_json(_Signed(kid=kid, claims=claims).model_dump(mode="json"))
    return f"{_encode(body)}.{_encode(private_key.sign(CONTEXT + body))}"


def verify_ticket(
    public_keys: Mapping[str, Ed25519PublicKey], ticket: str, *, site: str, now: float
) -> TicketClaims:
    """The claims of a genuine, current ticket for ``site``. Raises SignatureError.

    ``public_keys`` by key id. Not checked: that the nonce is new; the caller keeps those it has seen.
    """
    if len(ticket) > MAX_CHARACTERS:
        raise SignatureError("The ticket is too long. Open the clinic page again.")
    body_text, _, signature_text = ticket.partition(".")
    try:
        body, signature = _decode(body_text), _decode(signature_text)
        signed = _Signed.model_validate_json(body)
    except (binascii.Error, ValueError, ValidationError) as error:
        raise SignatureError("The ticket is not readable. Open the clinic page again.") from error
    key = public_keys.get(signed.kid)
    if key is None:
        raise SignatureError(
            "The ticket is signed with a key this site does not know. Is the agent connected?"
        )
    try:
        key.verify(signature, CONTEXT + body)
    except InvalidSignature as error:
        raise SignatureError("The ticket is not genuine.") from error
    claims = signed.claims
    if claims.site != site:
        raise SignatureError("The ticket is for another site.")
    if not claims.iat - CLOCK_SKEW_S <= now < claims.exp or claims.exp - claims.iat > LIFETIME_S:
        raise SignatureError("The ticket is over. Send the request again from the clinic page.")
    return claims


def load_public_key(public_key: str) -> Ed25519PublicKey:
    """The key from the base64 text of its 32 raw bytes. Raises SignatureError."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
    except (binascii.Error, ValueError) as error:
        raise SignatureError("A ticket key is not 32 bytes in base64.") from error


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
