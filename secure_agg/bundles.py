"""Shares for one peer, encrypted so that the server who carries them cannot read them."""

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_agg.errors import SecureAggregationError
from secure_agg.shamir import SHARE_BYTES

_NONCE = bytes(12)  # a key of ``keys.share_key`` encrypts one bundle and nothing else


def bundle_bytes(count: int) -> int:
    """The length of a bundle with ``count`` shares."""
    return count * SHARE_BYTES + 16


def seal_bundle(key: bytes, round_ctx: bytes, shares: Sequence[bytes]) -> bytes:
    return AESGCM(key).encrypt(_NONCE, b"".join(shares), round_ctx)


def open_bundle(key: bytes, round_ctx: bytes, sealed: bytes, count: int) -> tuple[bytes, ...]:
    """The ``count`` shares of a bundle. Raises E_BAD_BUNDLE for anything but what the sender sealed."""
    if len(sealed) != bundle_bytes(count):
        raise SecureAggregationError("E_BAD_BUNDLE")
    try:
        joined = AESGCM(key).decrypt(_NONCE, sealed, round_ctx)
    except InvalidTag:
        raise SecureAggregationError("E_BAD_BUNDLE") from None
    return tuple(joined[at : at + SHARE_BYTES] for at in range(0, len(joined), SHARE_BYTES))
