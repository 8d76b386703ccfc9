"""The key schedule: every key of a job comes from a pair's shared secret and the context it is for.

chain key 0 -> ratchet -> chain key r -> round key -> mask seed and share keys. The ratchet goes one way, so a
site taken over after round r cannot open round r; the round key binds model, plan and cohort, so two sites
that were told different things get masks that do not cancel instead of a leak.
"""

import hashlib
import hmac
from collections.abc import Sequence

HASH_BYTES = 32
SEED_BYTES = 32
TAG_BYTES = 16


def u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def digest(tag: str, *parts: bytes) -> bytes:
    """H: SHA-256 over the tag and the parts, each with its length, so that no two inputs read the same."""
    whole = hashlib.sha256(b"FLSA-1/" + tag.encode() + b"\0")
    for part in parts:
        whole.update(u64(len(part)))
        whole.update(part)
    return whole.digest()


def expand(key: bytes, label: str, *parts: bytes) -> bytes:
    """EXP: one block of HKDF-Expand-SHA256 with the digest of label and parts as its info."""
    return hmac.digest(key, digest(label, *parts) + b"\x01", "sha256")


def first_chain_key(shared_secret: bytes, job_ctx: bytes, low: int, high: int) -> bytes:
    """HKDF of the X25519 secret of the sites with the indices low and high, low first at both of them."""
    extracted = hmac.digest(job_ctx, shared_secret, "sha256")
    return expand(extracted, "chain", u16(low) + u16(high))


def ratchet(chain_key: bytes, to_step: int) -> bytes:
    """The chain key of ``to_step`` out of the one just before it."""
    return expand(chain_key, "ratchet", u64(to_step))


def round_key(chain_key: bytes, round_ctx: bytes) -> bytes:
    return expand(chain_key, "rk", round_ctx)


def mask_seed(of_round_key: bytes) -> bytes:
    """The seed of a pair's mask: one-way, so revealing it opens neither the round key nor another round."""
    return expand(of_round_key, "mask")


def share_key(of_round_key: bytes, sender: int, receiver: int) -> bytes:
    """The key of the one bundle that ``sender`` encrypts to ``receiver`` in this round."""
    return expand(of_round_key, "share", u16(sender) + u16(receiver))


def commit(secret: bytes) -> bytes:
    return digest("com", secret)


def pair_tag(of_mask_seed: bytes) -> bytes:
    """What both ends of a pair publish: equal tags say that their masks will cancel."""
    return commit(of_mask_seed)[:TAG_BYTES]


def job_context(job_id: str, epoch: int, roster_hash: bytes) -> bytes:
    return digest("job", job_id.encode(), u32(epoch), roster_hash)


def round_context(
    job_ctx: bytes, number: int, users: Sequence[int], model_hash: bytes, plan_bytes: bytes
) -> bytes:
    indices = b"".join(u16(index) for index in users)
    return digest("round", job_ctx, u64(number), indices, model_hash, plan_bytes)
