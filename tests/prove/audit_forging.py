"""Mutations of an audit bundle by somebody who knows the format: hashes, ranges and entries.

Each takes a log, a sound bundle of it and chance; it gives another bundle, or None where this one offers
nothing to work on. What the log's own key signs here is a log that lies.
"""

from collections.abc import Callable

import numpy as np

from compliance.merkle import leaf_hash, range_proof, root_of_range, subtree_of
from compliance.note import Signature, SignedNote, sign, verifier_key
from tests.compliance.crafted import Log, Parts, entry_of, key_of

Forge = Callable[[Log, Parts, np.random.Generator], "Parts | bytes | None"]


def one_of(items, rng: np.random.Generator):
    return items[rng.integers(len(items))]


# ---- hashes and ranges


def change_hash(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    proofs = [one.proof for one in (*parts.ranges, *parts.heads) if one.proof]
    if not proofs:
        return None
    proof = one_of(proofs, rng)
    place = int(rng.integers(len(proof)))
    kinds = (rng.bytes(32), bytes(32), one_of(log.leaves, rng), proof[place][::-1], proof[place][:31])
    proof[place] = one_of((*kinds, proof[place] + b"\0"), rng)
    return parts


def swap_hashes(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    proofs = [one.proof for one in (*parts.ranges, *parts.heads) if len(set(one.proof)) > 1]
    if not proofs:
        return None
    proof = one_of(proofs, rng)
    first, second = rng.choice(len(proof), size=2, replace=False)
    proof[first], proof[second] = proof[second], proof[first]
    return parts


def add_or_drop_hash(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    proof = one_of([one.proof for one in (*parts.ranges, *parts.heads)], rng)
    if proof and rng.integers(2):
        del proof[rng.integers(len(proof))]
    else:
        proof.insert(int(rng.integers(len(proof) + 1)), one_of((rng.bytes(32), *proof), rng))
    return parts


def drown_in_hashes(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    one = one_of([*parts.ranges, *parts.heads], rng)
    one.proof += [rng.bytes(32)] * int(one_of((100, 104, 105, 106, 107, 127, 128, 129, 200), rng))
    return parts


def shift_range(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    one = one_of(parts.ranges, rng)
    one.start = max(0, one.start + int(one_of((-8, -2, -1, 1, 2, 8), rng)))
    return parts


def borrow_range_proof(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    size = len(log.entries)
    start = int(rng.integers(size))
    one_of(parts.ranges, rng).proof = range_proof(
        subtree_of(log.leaves), start, int(rng.integers(start, size)), size
    )
    return parts


def touch_ranges(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    """One range as two that touch, overlap or stand in the wrong order; every proof is right."""
    size, long = len(log.entries), [one for one in parts.ranges if len(one.entries) > 2]
    if not long:
        return None
    one = one_of(long, rng)
    start, end = one.start, one.start + len(one.entries)
    middle = int(rng.integers(start + 1, end))
    spans = one_of(
        (
            [(start, middle), (middle, end)],
            [(start, middle), (middle - 1, end)],
            [(middle, end), (start, middle - 1)],
        ),
        rng,
    )
    if any(a >= b for a, b in spans):
        return None
    place = parts.ranges.index(one)
    parts.ranges[place : place + 1] = log.parts(spans, size=min(size, size)).ranges
    return parts


def lie_about_counts(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    one = one_of(parts.ranges, rng)
    if rng.integers(2):
        one.end = one.start + max(0, len(one.entries) + int(one_of((-1, 1, -len(one.entries)), rng)))
    else:
        one.hashes = max(0, len(one.proof) + int(one_of((-1, 1), rng)))
    return parts


# ---- entries


def replace_entry(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    one = one_of(parts.ranges, rng)
    one.entries[rng.integers(len(one.entries))] = entry_of(900_000, rng)
    return parts


def edit_entry(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    one = one_of(parts.ranges, rng)
    place = int(rng.integers(len(one.entries)))
    old, new = one_of(((b'"ok"', b'"error"'), (b"person-", b"person-1"), (b'"v":1', b'"v":2')), rng)
    one.entries[place] = one.entries[place].replace(old, new)
    return parts


def swap_entries(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    long = [one for one in parts.ranges if len(one.entries) > 1]
    if not long:
        return None
    entries = one_of(long, rng).entries
    first, second = rng.choice(len(entries), size=2, replace=False)
    entries[first], entries[second] = entries[second], entries[first]
    return parts


def _rewritten(log: Log, rng: np.random.Generator) -> Log:
    entries = [*log.entries]
    entries[rng.integers(len(entries))] = entry_of(900_001, rng)
    return Log(log.number, log.sites, entries, log.origin)


def _same_shape(other: Log, parts: Parts) -> Parts:
    spans = [(one.start, one.start + len(one.entries)) for one in parts.ranges]
    return other.parts(spans)


def rehash_unsigned(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    """An entry replaced, the tree computed anew, the true checkpoint's signatures kept."""
    other = _same_shape(_rewritten(log, rng), parts)
    other.last = SignedNote(other.last.text, parts.last.signatures)
    return other


def rehash_with_other_key(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    """The same, signed by a key of the attacker's under the log's name; the old cosignatures or his own."""
    other = _same_shape(_rewritten(log, rng), parts)
    note = sign(other.last.text, log.origin, key_of(77))
    if rng.integers(2):  # his signature under the true key's id
        true_id = verifier_key(log.origin, log.key).key_id
        note = SignedNote(note.text, (Signature(log.origin, true_id, note.signatures[0].body),))
    other.last = note.with_signatures(parts.last.signatures[1:])
    return other


def rehash_with_stolen_key(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    """The same with the log's own key: only the witnesses stand in the way."""
    if not log.quorum:
        return None
    other = _same_shape(_rewritten(log, rng), parts)
    note = sign(other.last.text, log.origin, log.key)
    kept = int(rng.integers(3))
    if kept == 1:
        note = note.with_signatures(parts.last.signatures[1:])
    if kept == 2:
        note = log.cosigned(note, log.names(log.quorum - 1))
    other.last = note
    return other


# ---- leaves that no writer makes, with the right tree over them


def true_tree_over(log: Log, leaf: bytes, place: int) -> Parts:
    """The whole log with ``leaf`` at ``place``: hashed, signed and co-signed as it is."""
    entries = [*log.entries]
    entries[place] = leaf
    return Log(log.number, log.sites, entries, log.origin).parts([(0, len(entries))])


def lead_astray(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    """Another leaf hash smuggled in as a node: an entry that is the concatenation of two hashes."""
    if len(log.entries) < 3:
        return None
    inner = b"".join(log.leaves[:2])
    whole = root_of_range(0, [leaf_hash(inner), *log.leaves[2:]], len(log.leaves) - 1, [])
    other = log.parts([(0, len(log.entries))])
    other.ranges[0].entries[:2] = [inner]
    text = log.text(len(log.entries) - 1, whole)
    other.last = log.cosigned(sign(text, log.origin, log.key), log.names())
    return other


FORGERIES: dict[str, Forge] = {
    one.__name__: one
    for one in (
        *(change_hash, swap_hashes, add_or_drop_hash, drown_in_hashes, shift_range, borrow_range_proof),
        *(touch_ranges, lie_about_counts, replace_entry, edit_entry, swap_entries, rehash_unsigned),
        *(rehash_with_other_key, rehash_with_stolen_key, lead_astray),
    )
}
