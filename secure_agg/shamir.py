"""Shamir's secret sharing of 32-byte secrets over the prime field of 2^256 + 297.

The insurance for a site that is lost between its upload and its reveal. Python's integers do not take
constant time; the secrets are fresh in every round and shared where they were made, which leaves little
to time.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

from secure_agg.errors import SecureAggregationError
from secure_agg.thresholds import MOST_SITES

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33  # the field is a little larger than 32 bytes
_COEFFICIENT_BYTES = 48  # 128 bits more than the field: the remainder is uniform but for 2^-127


def split(secret: bytes, threshold: int, count: int, random_bytes: Callable[[int], bytes]) -> list[bytes]:
    """One share for each of x = 1 .. count; any ``threshold`` of them give the secret, fewer give nothing."""
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= count <= MOST_SITES:
        raise ValueError(f"cannot share {len(secret)} bytes {threshold} of {count}")
    coefficients = [
        int.from_bytes(random_bytes(_COEFFICIENT_BYTES), "big") % PRIME for _ in range(threshold - 1)
    ]
    coefficients.insert(0, int.from_bytes(secret, "big"))
    return [_value_at(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in range(1, count + 1)]


def _value_at(coefficients: list[int], x: int) -> int:
    """Horner, reduced once at the end: x is small, so the number grows by ten bits a step at most."""
    value = 0
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value % PRIME


def reconstruct(shares: Mapping[int, bytes]) -> bytes:
    """The secret out of all given shares, by x.

    Too few of them give 32 bytes that mean nothing or an error; the caller checks the result against its
    commitment.
    """
    holders = tuple(sorted(shares))
    if not holders or not 1 <= holders[0] <= holders[-1] <= MOST_SITES:
        raise SecureAggregationError("E_BAD_SHARE")
    total = 0
    for holder, factor in zip(holders, _lagrange_at_zero(holders), strict=True):
        value = int.from_bytes(shares[holder], "big")
        if len(shares[holder]) != SHARE_BYTES or value >= PRIME:
            raise SecureAggregationError("E_BAD_SHARE")
        total += value * factor
    secret = total % PRIME
    if secret.bit_length() > 8 * SECRET_BYTES:
        raise SecureAggregationError("E_BAD_SHARE")
    return secret.to_bytes(SECRET_BYTES, "big")


@lru_cache(maxsize=64)
def _lagrange_at_zero(holders: tuple[int, ...]) -> tuple[int, ...]:
    """The weights of the holders' shares. A round opens many secrets with the same holders."""
    weights = []
    for own in holders:
        above, below = 1, 1
        for other in holders:
            if other != own:
                above = above * other % PRIME
                below = below * (other - own) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
