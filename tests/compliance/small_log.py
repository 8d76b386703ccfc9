"""A log of twenty entries with five witnesses, always the same, and what can be said about it."""

from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.bundle import bundle_lines, ranges_of
from compliance.canonical import canonical_bytes
from compliance.merkle import leaf_hash, root_hash, subtree_of
from compliance.note import COSIGNATURE_V1, Checkpoint, SignedNote, VerifierKey, cosign, sign, verifier_key
from compliance.tlog_proof import proof_of_entry
from compliance.witness_policy import WitnessPolicy, policy_of

ORIGIN = "north/audit/2026"
SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d", "hospital-e")
LONG_AGO, FAR_AHEAD = 1_000_000_000, 4_000_000_000  # 2001 and 2096: stale and fresh whatever the clock says


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


LOG_KEY, STRANGER = key(1), key(99)
WITNESS_KEYS = {site: key(10 + place) for place, site in enumerate(SITES)}
LOG = verifier_key(ORIGIN, LOG_KEY)


def witness_name(site: str) -> str:
    return f"north/{site}/witness"


WITNESSES = {
    site: verifier_key(witness_name(site), held, COSIGNATURE_V1) for site, held in WITNESS_KEYS.items()
}
POLICY = policy_of(LOG, WITNESSES)
OPEN_POLICY = WitnessPolicy(LOG, MappingProxyType({}), MappingProxyType({}), "none")

ENTRIES = [
    canonical_bytes({"act": "kit.issued", "id": f"e{n}", "n": n, "obj": ["站点", f"site-{n}"]})
    for n in range(20)
]
HASHES = [leaf_hash(entry) for entry in ENTRIES]
SUBTREE = subtree_of(HASHES)


def checkpoint(
    size: int, *, hashes=None, origin: str = ORIGIN, by: Ed25519PrivateKey = LOG_KEY
) -> SignedNote:
    root = root_hash((hashes or HASHES)[:size])
    return sign(str(Checkpoint(origin, size, root)), origin, by)


def cosigned(note: SignedNote, sites=SITES[:4], at: int = LONG_AGO) -> SignedNote:
    lines = [cosign(note.text, witness_name(site), WITNESS_KEYS[site], at) for site in sites]
    return note.with_signatures(lines)


def bundle(indexes=(3, 4, 7, 19), *, last: SignedNote | None = None, heads=None) -> str:
    """Three ranges and two older checkpoints under a full quorum."""
    last = last or cosigned(checkpoint(20))
    heads = [checkpoint(5), checkpoint(9)] if heads is None else heads
    return "".join(bundle_lines(SUBTREE, lambda a, b: ENTRIES[a:b], ranges_of(indexes), last, heads))


def bundle_of(entries: list[bytes]) -> str:
    """A whole log of these entries, without older checkpoints; well signed whatever the entries are."""
    hashes = [leaf_hash(entry) for entry in entries]
    last = cosigned(checkpoint(len(entries), hashes=hashes))
    whole = [(0, len(entries))]
    return "".join(bundle_lines(subtree_of(hashes), lambda a, b: entries[a:b], whole, last))


def proof(index: int, last: SignedNote | None = None) -> str:
    return str(proof_of_entry(SUBTREE, index, last or cosigned(checkpoint(20))))


def weak_key(name: str, kind: int) -> VerifierKey:
    """The point of order two, under which R = the same and S = 0 pass with a careless library."""
    return VerifierKey(name, kind, (2**255 - 20).to_bytes(32, "little"))
