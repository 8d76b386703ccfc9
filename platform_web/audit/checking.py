"""Checking one entry step by step, as its page shows it. A verifier of one's own needs no trust in this."""

from dataclasses import dataclass
from datetime import UTC, datetime

from django.utils.translation import gettext as _

from compliance.merkle import leaf_hash, node_hash
from compliance.note import Checkpoint, NoteError, VerifierKey, verify
from compliance.tlog_proof import TlogProof
from platform_web.audit import exports, selectors
from platform_web.audit.models import AuditEvent, AuditHead, AuditSeq


@dataclass(frozen=True)
class Step:
    """One sentence, a hash or name beside it, and whether it holds."""

    what: str
    detail: str
    ok: bool | None


@dataclass(frozen=True)
class Cosigner:
    """A registered witness, and when it co-signed the head (None: it did not)."""

    name: str
    site: str
    moment: datetime | None


def cosigners(head: AuditHead) -> list[Cosigner]:
    """Every site that witnesses, and when it co-signed this head."""
    note = selectors.checkpoint_note(head)
    rows = []
    for site, key in sorted(selectors.witness_keys().items()):
        lines = note.by(key)
        try:
            moment = datetime.fromtimestamp(verify(note.text, lines[0], key), UTC) if lines else None
        except NoteError:
            moment = None
        rows.append(Cosigner(key.name, site, moment))
    return rows


def steps_of(event: AuditEvent) -> list[Step]:
    """From the entry's bytes to the sites' signatures. Nothing is said (None) where no head holds it yet."""
    digest = leaf_hash(bytes(event.leaf))
    steps = [Step(_("The stored bytes have this hash."), digest.hex(), digest == bytes(event.leaf_hash))]
    place = selectors.place_of(event)
    head = exports.head_for(place) if place else None
    if place is None or head is None:
        return [*steps, Step(_("No signed head holds this entry yet. Look again in a minute."), "", ok=None)]
    proof = selectors.proof(place, head)
    return [*steps, *_path(proof, digest, place), *_signatures(proof, bytes(event.leaf), head)]


def _path(proof: TlogProof, digest: bytes, place: AuditSeq) -> list[Step]:
    """Bottom up; which side a sibling stands on follows from index and size (RFC 9162, 2.1.3.2)."""
    size = Checkpoint.parse(proof.note.text).size
    steps = [
        Step(
            _("It is leaf %(index)s of %(size)s.") % {"index": place.idx, "size": size},
            "",
            digest == bytes(place.leaf_hash),
        )
    ]
    node, last = place.idx, size - 1
    for sibling in proof.hashes:
        while not node & 1 and node == last and node:  # no sibling on this level
            node, last = node >> 1, last >> 1
        is_right = bool(node & 1)
        digest = node_hash(sibling, digest) if is_right else node_hash(digest, sibling)
        side = _("with its left neighbour") if is_right else _("with its right neighbour")
        steps.append(Step(_("Hashed %(side)s:") % {"side": side}, digest.hex(), ok=True))
        node, last = node >> 1, last >> 1
    return steps


def _signatures(proof: TlogProof, leaf: bytes, head: AuditHead) -> list[Step]:
    checkpoint = Checkpoint.parse(proof.note.text)
    policy = selectors.witness_policy(head.shard)
    steps = [
        Step(
            _("That is the root of the signed head."),
            checkpoint.root.hex(),
            proof.leads_to_its_checkpoint(leaf),
        ),
        Step(_("The log's key signed the head."), policy.log.name, _is_signed(proof, policy.log)),
    ]
    signed = [one for one in cosigners(head) if one.moment]
    steps += [
        Step(
            _("A site's key co-signed it at %(time)s UTC.") % {"time": f"{one.moment:%Y-%m-%d %H:%M:%S}"},
            one.name,
            ok=True,
        )
        for one in signed
    ]
    if policy.quorum == "none":
        return [
            *steps,
            Step(_("No site witnesses this log yet: only the portal vouches for it."), "", ok=False),
        ]
    quorum = policy.groups[policy.quorum][0]
    asked = _("%(signed)d of %(sites)d sites co-signed; %(quorum)d are needed.")
    figures = {"signed": len(signed), "sites": len(policy.witnesses), "quorum": quorum}
    return [*steps, Step(asked % figures, "", policy.is_met_by({one.name for one in signed}))]


def _is_signed(proof: TlogProof, key: VerifierKey) -> bool:
    lines = proof.note.by(key)
    try:
        return len(lines) == 1 and verify(proof.note.text, lines[0], key) == 0
    except NoteError:
        return False
