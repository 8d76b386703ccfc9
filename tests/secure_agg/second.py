"""FLSA-1's arithmetic written a second time, from the specification alone and with the standard library only.

Slow and plain on purpose: whole numbers and fractions instead of numpy, AES from its definition.
"""

import hashlib
import hmac
from fractions import Fraction
from struct import pack

PRIME = 2**256 + 297


def times_two(a):
    return (a << 1) ^ (0x11B if a & 0x80 else 0)


def field_product(a, b):
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a, b = times_two(a), b >> 1
    return product


def substitute(a):
    inverse = next((b for b in range(256) if field_product(a, b) == 1), 0)
    bits = inverse
    for turn in range(1, 5):
        bits ^= ((inverse << turn) | (inverse >> (8 - turn))) & 0xFF
    return bits ^ 0x63


SBOX = bytes(substitute(a) for a in range(256))
ROWS_SHIFTED = [(column + row) % 4 * 4 + row for column in range(4) for row in range(4)]


def round_keys(key):
    words, constant = [key[at : at + 4] for at in range(0, 32, 4)], 1
    for number in range(8, 60):
        word = words[-1]
        if number % 8 == 0:
            word = bytes(SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = times_two(constant)
        elif number % 8 == 4:
            word = bytes(SBOX[byte] for byte in word)
        words.append(xor(word, words[-8]))
    return [b"".join(words[at : at + 4]) for at in range(0, 60, 4)]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def mix(column):
    """Each byte twice, its neighbour three times, the other two once."""
    a = list(column)
    return bytes(
        times_two(a[i]) ^ times_two(a[(i + 1) % 4]) ^ a[(i + 1) % 4] ^ a[(i + 2) % 4] ^ a[(i + 3) % 4]
        for i in range(4)
    )


def aes256(keys, block):
    state = xor(block, keys[0])
    for key in keys[1:]:
        state = bytes(SBOX[state[at]] for at in ROWS_SHIFTED)
        if key is not keys[-1]:
            state = b"".join(mix(state[at : at + 4]) for at in range(0, 16, 4))
        state = xor(state, key)
    return state


def stream(seed, size, offset=0):
    """AES-256-CTR from a counter of zero; ``offset`` is a multiple of 16."""
    keys, first = round_keys(seed), offset // 16
    blocks = (aes256(keys, (first + i).to_bytes(16, "big")) for i in range(-(-size // 16)))
    return b"".join(blocks)[:size]


def digest(tag, *parts):
    framed = b"".join(pack("<Q", len(part)) + part for part in parts)
    return hashlib.sha256(b"FLSA-1/" + tag.encode() + b"\0" + framed).digest()


def expand(key, label, *parts):
    return hmac.new(key, digest(label, *parts) + b"\1", hashlib.sha256).digest()


def chain(secret, job_ctx, low, high, steps):
    """The chain key of the given step."""
    key = expand(hmac.new(job_ctx, secret, hashlib.sha256).digest(), "chain", pack("<HH", low, high))
    for step in range(1, steps + 1):
        key = expand(key, "ratchet", pack("<Q", step))
    return key


def job_context(job_id, epoch, roster_hash):
    return digest("job", job_id.encode(), pack("<I", epoch), roster_hash)


def round_context(job_ctx, number, users, model_hash, plan):
    indices = pack(f"<{len(users)}H", *users)
    return digest("round", job_ctx, pack("<Q", number), indices, model_hash, plan)


def share(coefficients, x):
    """The value at x of the polynomial with these coefficients, the secret first."""
    return (sum(c * x**power for power, c in enumerate(coefficients)) % PRIME).to_bytes(33, "big")


def encode(value, ring, places, log2_clip, share_of_weight):
    """One number as a ring element; ``share_of_weight`` is what it is multiplied with."""
    limit = Fraction(2) ** log2_clip
    clipped = min(max(Fraction(value), -limit), limit)
    if ring == 64:
        whole = round(clipped * 2**places) * share_of_weight
    else:
        whole = round(clipped * 2**places * share_of_weight)
    return whole % 2**ring, abs(Fraction(value)) > limit, clipped


def masked_vector(ring, fields, weight, weight_max, statistics, masks):
    """``fields``: (values, places, log2_clip, weighted, is_whole) in the plan's order."""
    words, clip_count, norm2 = [], 0, Fraction(0)
    for values, places, log2_clip, weighted, is_whole in fields:
        factor = 1 if not weighted else weight if ring == 64 else Fraction(weight, weight_max)
        for value in values:
            word, beyond, clipped = encode(value, ring, places, log2_clip, factor)
            words.append(word)
            clip_count += beyond
            norm2 += 0 if is_whole else clipped**2
    main = b"".join(word.to_bytes(ring // 8, "little") for word in words)
    words += [0] * (-len(main) % 16 * 8 // ring)
    lane = [weight, clip_count, round(norm2 * 2**20), 1]
    lane += [round(Fraction(value) * 2**20) % 2**64 for value in statistics]
    return _mask(words, ring, masks, 0) + _mask(lane, 64, masks, len(words) * ring // 8)


def _mask(words, ring, masks, offset):
    size, total = ring // 8, list(words)
    for seed, sign in masks:
        key_stream = stream(seed, size * len(words), offset)
        for i in range(len(words)):
            total[i] += sign * int.from_bytes(key_stream[size * i : size * (i + 1)], "little")
    return b"".join((word % 2**ring).to_bytes(size, "little") for word in total)
