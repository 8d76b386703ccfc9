"""The sites of one epoch with their verified keys, in one order that everybody computes alike."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secure_agg import messages
from secure_agg.errors import SecureAggregationError
from secure_agg.identity import Trust, fingerprint, is_pinned, verify_advert
from secure_agg.keys import digest, job_context
from secure_agg.thresholds import SMALLEST_COHORT


@dataclass(frozen=True)
class Roster:
    """Adverts sorted by the UTF-8 bytes of their names; a site's index is its position."""

    adverts: tuple[messages.Advert, ...]

    @classmethod
    def of(cls, adverts: Iterable[messages.Advert]) -> "Roster":
        return cls(tuple(sorted(adverts, key=lambda advert: advert.name.encode())))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(advert.name for advert in self.adverts)

    def __len__(self) -> int:
        return len(self.adverts)

    def index(self, name: str) -> int:
        """The position of ``name``; raises E_SELF_MISSING for a site the roster does not hold."""
        if name not in self.names:
            raise SecureAggregationError("E_SELF_MISSING", site=name)
        return self.names.index(name)

    def names_of(self, indices: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.names[index] for index in indices)

    @cached_property
    def roster_hash(self) -> bytes:
        return digest("roster", *(member_hash(advert) for advert in self.adverts))

    def job_ctx(self, job_id: str, epoch: int) -> bytes:
        return job_context(job_id, epoch, self.roster_hash)

    def is_signed(self, index: int, signature: bytes, body: bytes) -> bool:
        """Whether the epoch key of site ``index`` signed ``body``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.adverts[index].ed25519_pk).verify(signature, body)
        except (InvalidSignature, ValueError):
            return False
        return True


def member_hash(advert: messages.Advert) -> bytes:
    """Who a member is: the name, the certificate and the two keys, without what may differ in a signature."""
    certificate = hashlib.sha256(advert.chain[0]).digest()
    return digest("member", advert.name.encode(), certificate, advert.x25519_pk, advert.ed25519_pk)


def verify_distinct(adverts: Iterable[messages.Advert]) -> None:
    """No key stands behind two names, whichever of a site's three keys it is (E_DUPLICATE_KEY)."""
    owners: dict[str, str] = {}
    for advert in adverts:
        for key in (advert.x25519_pk.hex(), advert.ed25519_pk.hex(), fingerprint(advert.chain[0])):
            if key in owners:
                raise SecureAggregationError("E_DUPLICATE_KEY", site=advert.name, peer=owners[key])
            owners[key] = advert.name


def verify_roster(roster: Roster, own: messages.Advert, trust: Trust, *, now: int) -> bool:
    """All a site checks before it agrees on keys with the roster; True when every peer was pinned.

    Raises E_SELF_MISSING, E_COHORT_TOO_SMALL, E_DUPLICATE_KEY, E_NOT_PINNED, and as ``verify_advert``.
    """
    if roster.adverts[roster.index(own.name)] != own:  # bit-exact: the server may not alter our keys
        raise SecureAggregationError("E_SELF_MISSING", site=own.name)
    if len(roster) < SMALLEST_COHORT:
        raise SecureAggregationError("E_COHORT_TOO_SMALL", have=len(roster), need=SMALLEST_COHORT)
    for advert in roster.adverts:
        verify_advert(advert, trust, job_id=own.job_id, epoch=own.epoch, now=now)
    verify_distinct(roster.adverts)
    if trust.pins is None:
        return False
    for advert in roster.adverts:
        if advert.name != own.name and not is_pinned(advert.name, advert.chain[0], trust.pins):
            raise SecureAggregationError("E_NOT_PINNED", site=advert.name)
    return True
