"""Mutations of an audit bundle by somebody who holds keys: signatures, older heads, the checkpoint's text."""

import base64

import numpy as np

from compliance.merkle import range_proof, subtree_of
from compliance.note import Signature, SignedNote, cosign, sign
from tests.compliance.crafted import NOW, Log, Parts, encoded, entry_of, key_of, witness_name
from tests.prove.audit_forging import Forge, one_of

ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19
SMALL = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)


# ---- signatures of the last checkpoint


def _resigned(parts: Parts, place: int, *lines: Signature) -> Parts:
    signatures = [*parts.last.signatures]
    signatures[place : place + 1] = lines
    parts.last = SignedNote(parts.last.text, tuple(signatures))
    return parts


def drop_or_double(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | bytes:
    """A cosignature of the quorum missing, the log's line missing or there twice."""
    lines = parts.last.signatures
    place = int(rng.integers(len(lines)))
    if place == 0 and rng.integers(2):
        return _resigned(parts, 0, lines[0], lines[0])
    return _resigned(parts, place) if len(lines) > 1 else _resigned(parts, 0, lines[0], lines[0])


def replay_signature(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    """A true signature of the same hand, of another checkpoint."""
    place = int(rng.integers(len(parts.last.signatures)))
    size = int(rng.integers(len(log.entries)))
    return _resigned(parts, place, log.signed(size, log.names()).signatures[place])


def swap_signatures(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    lines = parts.last.signatures
    if len(lines) < 2:
        return None
    first, second = rng.choice(len(lines), size=2, replace=False)
    swapped = Signature(lines[first].name, lines[first].key_id, lines[second].body)
    return _resigned(parts, int(first), swapped)


def change_time(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    if len(parts.last.signatures) < 2:
        return None
    place = int(rng.integers(1, len(parts.last.signatures)))
    line = parts.last.signatures[place]
    time = int(one_of((NOW + 1, NOW - 1, 0, 2**53, 2**64 - 1, NOW + 2**32), rng))
    return _resigned(parts, place, Signature(line.name, line.key_id, time.to_bytes(8, "big") + line.body[8:]))


def sign_strange_time(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    """A witness signs a second that is no number of this format."""
    if len(parts.last.signatures) < 2:
        return None
    name = one_of(log.names(), rng)
    time = int(one_of((2**53, 2**63, 2**64 - 1), rng))
    place = 1 + log.names().index(name)
    return _resigned(parts, place, log.cosignature(parts.last.text, name, time=time))


def cosign_with_other_key(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    if len(parts.last.signatures) < 2:
        return None
    place = int(rng.integers(1, len(parts.last.signatures)))
    name = parts.last.signatures[place].name
    forged = cosign(parts.last.text, name, key_of(78), NOW)
    key_id = one_of((forged.key_id, parts.last.signatures[place].key_id), rng)
    return _resigned(parts, place, Signature(name, key_id, forged.body))


def bend_signature(log: Log, parts: Parts, rng: np.random.Generator) -> Parts:
    """Ed25519 where libraries differ: S + L, other encodings of R, R of small order, wrong lengths."""
    place = int(rng.integers(len(parts.last.signatures)))
    line = parts.last.signatures[place]
    head, r, s = line.body[:-64], line.body[-64:-32], int.from_bytes(line.body[-32:], "little")
    y = int.from_bytes(r, "little")
    bodies = [
        r + (s + ORDER).to_bytes(32, "little"),
        bytes.fromhex(one_of(SMALL, rng)) + s.to_bytes(32, "little"),
    ]
    bodies += [(y ^ 1 << 255).to_bytes(32, "little") + s.to_bytes(32, "little"), bytes(64), line.body[-64:-1]]
    bodies += [line.body[-64:] + b"\0", r + bytes(32), r + ORDER.to_bytes(32, "little")]
    bodies += [(y + FIELD & 2**256 - 1).to_bytes(32, "little") + s.to_bytes(32, "little")]
    return _resigned(parts, place, Signature(line.name, line.key_id, head + one_of(bodies, rng)))


# ---- older heads


def fork_head(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    """An older checkpoint of another history, signed by the log."""
    if not parts.heads:
        return None
    head = one_of(parts.heads, rng)
    size = int(head.note.text.split("\n")[1])
    if not size:
        return None
    other = Log(log.number, log.sites, [entry_of(900_002, rng), *log.entries[1:]], log.origin)
    head.note = other.signed(size)
    if rng.integers(2):  # with the proof of that other history: then it does not lead to the last root
        head.proof = range_proof(subtree_of(other.leaves), size, size, len(other.entries))
    return parts


def trouble_heads(log: Log, parts: Parts, rng: np.random.Generator) -> Parts | None:
    """Heads in wrong order, twice, as large as the last, unsigned, of another key, or wrongly cosigned."""
    if not parts.heads:
        return None
    place = int(rng.integers(len(parts.heads)))
    head = parts.heads[place]
    kind = int(rng.integers(6))
    if kind == 0:
        parts.heads.insert(place, head)
    elif kind == 1 and len(parts.heads) > 1:
        parts.heads.reverse()
    elif kind == 2:
        size = len(log.entries)
        parts.heads.append(
            type(head)(range_proof(subtree_of(log.leaves), size, size, size), log.signed(size))
        )
    elif kind == 3:
        head.note = sign(head.note.text, log.origin, key_of(79))
    elif kind == 4 and log.sites:
        wrong = log.cosignature(parts.last.text, one_of(log.names(), rng))
        head.note = head.note.with_signatures([wrong])
    else:
        head.note = SignedNote(head.note.text, parts.last.signatures)
    return parts


# ---- the checkpoint's text, rightly signed by the log and its witnesses


def sign_strange_text(log: Log, parts: Parts, rng: np.random.Generator) -> bytes:
    """Signed by everybody, but not the one form of a checkpoint."""
    origin, size, root = parts.last.text.split("\n")[:3]
    texts = [
        f"{origin}\n0{size}\n{root}\n",
        f"{origin}\n{size}\n{root}\nextension\n",
        f"{origin}\n{size}\n{root[:-1]}\n",
    ]
    texts += [
        f"{origin}\n{size}\n{root.replace('=', '')}==\n",
        f"{origin}\n+{size}\n{root}\n",
        f"{origin}\r\n{size}\n{root}\n",
    ]
    texts += [
        f"{origin}\n{size}\n{encoded(base64.b64decode(root)[:31])}\n",
        f"{origin}\n{2**53}\n{root}\n",
        f"\n{size}\n{root}\n",
    ]
    texts += [
        f"{origin} x\n{size}\n{root}\n",
        # a level more: of size + 1 a proof away from the right edge can be the same (docs/audit-log.md)
        f"{origin}\n{2 * int(size)}\n{root}\n",
        f"heart/audit/2027\n{size}\n{root}\n",
    ]
    text = one_of(texts, rng)
    last = log.cosigned(sign(text, log.origin, log.key), log.names())
    return _with_note(parts, str(last).encode())


def write_strange_note(log: Log, parts: Parts, rng: np.random.Generator) -> bytes:
    """The signatures fit; the lines around them are not those of a note."""
    note = str(parts.last).encode()
    stranger = f"\u2014 {witness_name('stranger')} {encoded(rng.bytes(76))}\n".encode()
    notes = [
        note[:-1],
        note + b"\n",
        note.replace(b"\n\n", b"\n"),
        note.replace(b"\n\n", b"\n\n\n"),
        note + b"x\n",
    ]
    notes += [
        note.replace("\u2014".encode(), b"-", 1),
        note.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + note,
        note + stranger * 80,
    ]
    notes += [
        note + stranger[:-1],
        note.replace("\u2014 ".encode(), "\u2014  ".encode(), 1),
        note + b"\xff\n",
    ]
    notes += [
        note + f"\u2014 x {encoded(bytes(4))}\n".encode(),
        note + f"\u2014 a+b {encoded(bytes(68))}\n".encode(),
    ]
    notes += [
        note + f"\u2014 x {encoded(rng.bytes(17_000))}\n".encode(),
        note + "\u2014 x\u00a0y AAAAAAA=\n".encode(),
        b"",
    ]
    notes += [note + f"\u2014 医院 {encoded(rng.bytes(76))}\n".encode()]
    return _with_note(parts, one_of(notes, rng))


def _with_note(parts: Parts, note: bytes) -> bytes:
    head, _, _ = parts.data().rpartition(b"checkpoint ")
    return head + b"checkpoint " + base64.b64encode(note) + b"\n"


SIGNINGS: dict[str, Forge] = {
    one.__name__: one
    for one in (
        *(drop_or_double, replay_signature, swap_signatures, change_time, sign_strange_time),
        *(cosign_with_other_key, bend_signature, fork_head, trouble_heads, sign_strange_text),
        write_strange_note,
    )
}
