"""Reading the log as a tree: heads with cosignatures, proofs, bundles. A proof costs O(log size) rows."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db.models import Count, Max, Min
from django.utils import timezone
from django.utils.module_loading import import_string

from compliance import merkle
from compliance.bundle import Range, bundle_lines
from compliance.note import MAX_SIGNATURES, NoteError, Signature, SignedNote, VerifierKey
from compliance.tiles import WIDTH, Row, TiledTree, split_hashes
from compliance.tlog_proof import TlogProof, proof_of_entry
from compliance.witness_policy import WitnessPolicy, policy_of
from platform_web.audit.models import (
    AuditCosignature,
    AuditEvent,
    AuditHead,
    AuditSeq,
    AuditShard,
    AuditTile,
    AuditWitness,
)

READ_AT_ONCE = 2000
GRACE = timedelta(seconds=10)  # an entry is signed about a second after it was written
GATHERING_S = 30  # two visits of a site
LATE_COMMITS = 10_000  # entries whose numbers may lie below one that was sequenced before them


def origin_of(year: int) -> str:
    """The name of the tree of this year."""
    return f"{settings.CONSILIUM_FEDERATION}/audit/{year}"


def shards() -> list[AuditShard]:
    """Every tree so far, oldest first."""
    return list(AuditShard.objects.order_by("year"))


def current_shard() -> AuditShard | None:
    """The tree that grows; none before the sequencer ran for the first time."""
    return AuditShard.objects.order_by("-year").first()


def shard_at(origin: str) -> AuditShard | None:
    """The tree with this origin."""
    return AuditShard.objects.filter(origin=origin).first()


def log_key(year: int) -> VerifierKey:
    """What verifies this year's checkpoints. Raises AuditShard.DoesNotExist."""
    return VerifierKey.parse(AuditShard.objects.get(year=year).key)


def sequenced_size(year: int) -> int:
    """How many entries have their place; the signed head may be a second behind."""
    last: int | None = AuditSeq.objects.filter(shard=year).aggregate(last=Max("idx"))["last"]
    return 0 if last is None else last + 1


def row_of(year: int) -> Row:
    """The hashes of this year's tree: full tiles from their rows, the edge from what makes it up."""

    def row(level: int, start: int, end: int) -> Sequence[bytes]:
        if end - start == WIDTH:
            whole = AuditTile.objects.filter(shard=year, level=level, n=start // WIDTH)
            data = whole.values_list("hashes", flat=True).first()
            return split_hashes(bytes(data or b""))
        if level == 0:
            leaves = AuditSeq.objects.filter(shard=year, idx__gte=start, idx__lt=end).order_by("idx")
            return [bytes(digest) for digest in leaves.values_list("leaf_hash", flat=True)]
        below = AuditTile.objects.filter(shard=year, level=level - 1, n__gte=start, n__lt=end).order_by("n")
        return [bytes(digest) for digest in below.values_list("root", flat=True)]

    return row


def subtree(year: int, size: int) -> TiledTree:
    """The tree of the first ``size`` entries of this year: what ``compliance.merkle`` makes proofs from."""
    return TiledTree(size, row_of(year))


def latest_head(year: int | None = None) -> AuditHead | None:
    """The newest signed head, of all or of this year's tree."""
    heads = AuditHead.objects.all() if year is None else AuditHead.objects.filter(shard=year)
    return heads.order_by("-shard", "-size").first()


def head_to_witness(old: int) -> AuditHead | None:
    """What a site that has signed ``old`` entries is asked to sign: the head that others have begun to sign.

    A busy log has a new head each second; if each site were shown the newest, no head would get a quorum. One
    that has its quorum, or did not get it within two visits, gives way to the newest.
    """
    newest = latest_head()
    if newest is None:
        return None
    lines = AuditCosignature.objects.filter(shard=newest.shard, size__gte=old).values("size")
    begun = lines.annotate(first=Min("timestamp")).filter(first__gte=timezone.now().timestamp() - GATHERING_S)
    size = begun.order_by("-size").values_list("size", flat=True).first()
    head = head_at(newest.shard, size) if size is not None else None
    return head if head is not None and not is_witnessed(head) else newest


def head_at(year: int, size: int) -> AuditHead | None:
    """The head of exactly this size."""
    return AuditHead.objects.filter(shard=year, size=size).first()


def checkpoint_note(head: AuditHead) -> SignedNote:
    """The signed checkpoint, with the newest line of every witness that co-signed it.

    A log at rest has one text for as long as it rests: how fresh it is stands in the seconds of these lines.
    """
    newest: dict[str, str] = {}
    lines = AuditCosignature.objects.filter(shard=head.shard, size=head.size).order_by("timestamp")
    for witness, line in lines.values_list("witness", "line"):
        newest[witness] = line
    note = SignedNote.parse(head.note)
    return note.with_signatures(
        Signature.parse(newest[name]) for name in sorted(newest)[: MAX_SIGNATURES - 1]
    )


def witness_keys() -> dict[str, VerifierKey]:
    """Site that takes part → the key it witnesses with now."""
    taking_part = import_string(settings.AUDIT_SITES)()
    return {site: key for site, key in witness_keys_of_all().items() if site in taking_part}


def witness_keys_of_all() -> dict[str, VerifierKey]:
    """The same, with sites that are suspended or gone."""
    newest = AuditWitness.objects.values("site").annotate(newest=Max("pk")).values("newest")
    rows = AuditWitness.objects.filter(pk__in=newest).exclude(key="").order_by("site")
    return {site: VerifierKey.parse(key) for site, key in rows.values_list("site", "key")}


def witness_policy(year: int) -> WitnessPolicy:
    """Whose cosignatures this year's checkpoints need. Raises AuditShard.DoesNotExist."""
    return policy_of(log_key(year), {key.name: key for key in witness_keys().values()})


def is_witnessed(head: AuditHead, policy: WitnessPolicy | None = None) -> bool:
    """Whether the quorum co-signed this head; with no witness registered nobody is asked."""
    policy = policy or witness_policy(head.shard)
    try:
        return policy.is_met_by(set(policy.signers(checkpoint_note(head))))
    except NoteError:  # a line in the table that does not fit counts for nothing
        return False


def witnessed_head(year: int) -> AuditHead | None:
    """The newest head of this year's tree that the quorum co-signed."""
    policy = witness_policy(year)
    if policy.quorum == "none":
        return latest_head(year)
    least = policy.groups[policy.quorum][0]
    lines = AuditCosignature.objects.filter(shard=year, witness__in=policy.witnesses).values("size")
    sizes = lines.annotate(of=Count("witness", distinct=True)).filter(of__gte=least).order_by("-size")
    for size in sizes.values_list("size", flat=True)[:WIDTH]:
        head = head_at(year, size)
        if head is not None and is_witnessed(head, policy):
            return head
    return None


def place_of(event: AuditEvent) -> AuditSeq | None:
    """Where the entry stands; none until the sequencer came by."""
    return AuditSeq.objects.filter(event=event.number).first()


def consistency(tree: TiledTree, old: int) -> list[bytes]:
    """The proof from ``old`` entries to all of ``tree``; empty for none or all. Raises IndexError."""
    if old in (0, tree.size):
        return []
    return merkle.consistency_proof(tree, old, tree.size)


def proof(place: AuditSeq, head: AuditHead) -> TlogProof:
    """The proof that this head contains the entry. Raises IndexError when it is of another tree or older."""
    if place.shard != head.shard:
        raise IndexError(place.idx)
    return proof_of_entry(subtree(head.shard, head.size), place.idx, checkpoint_note(head))


def leaves(year: int, start: int, end: int) -> Iterator[bytes]:
    """The canonical bytes of the entries start ≤ index < end, in order."""
    for begin in range(start, end, READ_AT_ONCE):
        until = min(begin + READ_AT_ONCE, end)
        events = AuditEvent.objects.filter(seq__shard=year, seq__idx__gte=begin, seq__idx__lt=until)
        for leaf in events.order_by("seq__idx").values_list("leaf", flat=True):
            yield bytes(leaf)


def places(events: Sequence[AuditEvent], year: int, size: int) -> list[int]:
    """The indices of these entries within the first ``size`` of this year's tree, ascending."""
    found = AuditSeq.objects.filter(event__in=[event.number for event in events], shard=year, idx__lt=size)
    return sorted(found.values_list("idx", flat=True))


def bundle(head: AuditHead, ranges: Sequence[Range], older: Sequence[AuditHead] = ()) -> Iterator[str]:
    """These entries with what proves them, a line at a time. ``older`` heads ascend. Raises BundleError."""
    return bundle_lines(
        subtree(head.shard, head.size),
        partial(leaves, head.shard),
        ranges,
        checkpoint_note(head),
        [checkpoint_note(one) for one in older],
    )


def unsigned_since() -> datetime | None:
    """The time of the oldest entry that no signed head holds yet, when that is more than seconds ago.

    The signer or the sequencer is away then. Entries are still written; nothing proves them so far.
    """
    shard = current_shard()
    oldest = None
    if shard is not None:
        head = latest_head(shard.year)
        later = AuditEvent.objects.filter(seq__shard=shard.year, seq__idx__gte=head.size if head else 0)
        oldest = later.order_by("seq__idx").values_list("ts", flat=True).first()
    oldest = oldest or oldest_waiting()
    return oldest if oldest is not None and timezone.now() - oldest > GRACE else None


def oldest_waiting() -> datetime | None:
    """The time of the oldest entry that has no place in the tree yet."""
    last: int = AuditSeq.objects.aggregate(last=Max("event"))["last"] or 0
    waiting = AuditEvent.objects.filter(number__gt=last - LATE_COMMITS, seq__isnull=True)
    return waiting.order_by("number").values_list("ts", flat=True).first()
