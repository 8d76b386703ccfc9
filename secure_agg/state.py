"""What a site must not forget between two messages of one epoch, sealed for its own disk.

Written before any byte that depends on it leaves: a crash costs the site a round, never a key used twice.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_agg.errors import SecureAggregationError
from secure_agg.framing import JOB_ID_LIMIT
from secure_agg.keys import HASH_BYTES, ratchet
from secure_agg.thresholds import MOST_SITES
from secure_agg.wire import Reader, Writer, put_pairs, refuse, take_pairs

ROUND_GAP_MAX: Final = 65_536  # one ratchet step per skipped round and peer: a server may not ask for more
SIGNED_KEPT: Final = 256  # next_round alone refuses older rounds
SPENT_MAX: Final = 1 << 20
_ROSTER_LIMIT: Final = 64 << 20
_STATE_START: Final = b"FLSA-1/state\x01"
_NONCE_BYTES: Final = 12

RandomBytes = Callable[[int], bytes]


class Vault(Protocol):
    """Where a site keeps its state (one file per job) and its ledger (one for the site)."""

    key: bytes

    def read_state(self) -> bytes | None:
        """The bytes last written, None before the first."""

    def write_state(self, data: bytes) -> None:
        """Replace the state; it survives a power cut once this returns."""

    def update_ledger(self, change: Callable[[bytes | None], bytes]) -> None:
        """Replace the ledger by what ``change`` makes of it: exclusive and durable, or not at all."""


class MemoryVault:
    """A vault for simulations: durable as long as the process lives."""

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key or os.urandom(32)
        self.state: bytes | None = None
        self.ledger: bytes | None = None

    def read_state(self) -> bytes | None:
        return self.state

    def write_state(self, data: bytes) -> None:
        self.state = data

    def update_ledger(self, change: Callable[[bytes | None], bytes]) -> None:
        self.ledger = change(self.ledger)


@dataclass(frozen=True)
class ClientState:
    """One site's side of one epoch. The chain keys are those of ``next_round``, by peer index."""

    job_id: str
    epoch: int
    name: str
    pinned: bool
    roster: bytes
    job_ctx: bytes
    ed25519_secret: bytes = field(repr=False)
    chain_keys: dict[int, bytes] = field(repr=False)
    next_round: int = 1
    signed: dict[int, bytes] = field(default_factory=dict)  # round -> freeze hash
    spent: tuple[bytes, ...] = ()  # model hashes whose sum was revealed, oldest first

    def check_round(self, number: int) -> None:
        """Raise E_ROUND_REPLAY for a round that is used, or so far ahead that only a fault explains it."""
        if not self.next_round <= number <= self.next_round + ROUND_GAP_MAX:
            raise SecureAggregationError("E_ROUND_REPLAY", round=number)

    def use_round(self, number: int) -> tuple[dict[int, bytes], "ClientState"]:
        """The chain keys of round ``number``, and the state after it, which cannot make them again."""
        self.check_round(number)
        keys = self.chain_keys
        for step in range(self.next_round + 1, number + 1):
            keys = {peer: ratchet(key, step) for peer, key in keys.items()}
        later = {peer: ratchet(key, number + 1) for peer, key in keys.items()}
        return keys, replace(self, next_round=number + 1, chain_keys=later)

    def with_signed(self, number: int, freeze_hash: bytes) -> "ClientState":
        """The state that remembers this round's freeze hash; a second, other one is E_EQUIVOCATION."""
        if self.signed.get(number, freeze_hash) != freeze_hash:
            raise SecureAggregationError("E_EQUIVOCATION", round=number)
        signed = {**self.signed, number: freeze_hash}
        kept = sorted(signed)[-SIGNED_KEPT:]
        return replace(self, signed={round_: signed[round_] for round_ in kept})

    def with_spent(self, model_hash: bytes) -> "ClientState":
        return self if model_hash in self.spent else replace(self, spent=(*self.spent, model_hash))

    def encode(self) -> bytes:
        writer = Writer(_STATE_START)
        writer.text("job id", self.job_id, JOB_ID_LIMIT)
        writer.u32("epoch", self.epoch)
        writer.text("site name", self.name, 63)
        writer.u8("trust mode", int(self.pinned))
        writer.blob("roster", self.roster, _ROSTER_LIMIT)
        writer.fixed("job context", self.job_ctx, HASH_BYTES)
        writer.fixed("signing key", self.ed25519_secret, 32)
        chain_keys = sorted(self.chain_keys.items())
        put_pairs(writer, "chain keys", chain_keys, lambda key: writer.fixed("chain keys", key, 32))
        writer.u64("next round", self.next_round)
        writer.count("signed rounds", len(self.signed))
        for number, freeze_hash in sorted(self.signed.items()):
            writer.u64("signed rounds", number)
            writer.fixed("signed rounds", freeze_hash, HASH_BYTES)
        writer.blob("spent models", b"".join(self.spent), SPENT_MAX * HASH_BYTES)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        if reader.fixed("state version", len(_STATE_START)) != _STATE_START:
            refuse("state version")
        job_id, epoch = reader.text("job id", JOB_ID_LIMIT), reader.u32("epoch")
        name, pinned = reader.text("site name", 63), reader.u8("trust mode") == 1
        roster, job_ctx = reader.blob("roster", _ROSTER_LIMIT), reader.fixed("job context", HASH_BYTES)
        secret = reader.fixed("signing key", 32)
        chain_keys = take_pairs(reader, "chain keys", 32, lambda: reader.fixed("chain keys", 32))
        next_round = reader.u64("next round")
        count = reader.count("signed rounds", 8 + HASH_BYTES, MOST_SITES)
        signed = {
            reader.u64("signed rounds"): reader.fixed("signed rounds", HASH_BYTES) for _ in range(count)
        }
        spent = split_hashes(reader.blob("spent models", SPENT_MAX * HASH_BYTES))
        reader.end()
        if max(signed, default=0) >= next_round:
            reason = "it has signed a round that it has not begun"
            raise SecureAggregationError("E_STATE_ROLLBACK", reason=reason)
        return cls(
            job_id, epoch, name, pinned, roster, job_ctx, secret, dict(chain_keys), next_round, signed, spent
        )


def split_hashes(joined: bytes) -> tuple[bytes, ...]:
    if len(joined) % HASH_BYTES:
        refuse("spent models")
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))


def seal_state(key: bytes, state: ClientState, random_bytes: RandomBytes = os.urandom) -> bytes:
    return seal(key, "state", state.encode(), random_bytes)


def open_state(key: bytes, sealed: bytes) -> ClientState:
    """Raises E_STATE_ROLLBACK for anything but what ``seal_state`` wrote with this key."""
    return ClientState.decode(unseal(key, "state", sealed))


def seal(key: bytes, what: str, plain: bytes, random_bytes: RandomBytes = os.urandom) -> bytes:
    """AES-256-GCM under the site's key; ``what`` keeps one file from passing for the other."""
    nonce = random_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, b"FLSA-1/" + what.encode())


def unseal(key: bytes, what: str, sealed: bytes) -> bytes:
    """Raises E_STATE_ROLLBACK: a file that was altered says nothing about what this site has done."""
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, rest, b"FLSA-1/" + what.encode())
    except (InvalidTag, ValueError):
        reason = f"the {what} file cannot be opened with the site's key"
        raise SecureAggregationError("E_STATE_ROLLBACK", reason=reason) from None
