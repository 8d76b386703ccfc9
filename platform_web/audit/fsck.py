"""Every stored entry against its place, its tree and what was signed: the tables read from end to end."""

from collections.abc import Iterator

from compliance.merkle import Frontier, leaf_hash
from compliance.note import NoteError, VerifierKey, open_checkpoint
from platform_web.audit.models import AuditEvent, AuditHead, AuditSeq, AuditShard

AT_ONCE = 2000


def findings(shard: AuditShard) -> Iterator[str]:
    """What is wrong with this year's tree, a sentence each; nothing when all is well."""
    heads = list(AuditHead.objects.filter(shard=shard.year).order_by("size").iterator())
    frontier, waiting = Frontier(), iter(heads)
    head = next(waiting, None)
    while head is not None and head.size == 0:
        head = next(waiting, None)
    for place, leaf in _rows(shard.year):
        if place.idx != frontier.size:
            yield f"{shard.origin}: the place {frontier.size} is empty; {place.idx} follows."
            return  # from here on every head would be wrong
        digest = leaf_hash(leaf)
        if digest != bytes(place.leaf_hash):
            yield f"{shard.origin}: the bytes of entry {place.idx} are not those that got this place."
        frontier.append(digest)
        while head is not None and head.size == frontier.size:
            yield from _head(shard, head, frontier.root())
            head = next(waiting, None)
    if head is not None:
        yield f"{shard.origin}: {head.size} entries were signed, but only {frontier.size} are here."


def _rows(year: int) -> Iterator[tuple[AuditSeq, bytes]]:
    start = -1
    while places := list(AuditSeq.objects.filter(shard=year, idx__gt=start).order_by("idx")[:AT_ONCE]):
        numbers = [place.event_id for place in places]
        leaves = dict(AuditEvent.objects.filter(number__in=numbers).values_list("number", "leaf"))
        for place in places:
            yield place, bytes(leaves.get(place.event_id, b""))
        start = places[-1].idx


def _head(shard: AuditShard, head: AuditHead, root: bytes) -> Iterator[str]:
    try:
        checkpoint, _note = open_checkpoint(head.note, VerifierKey.parse(shard.key))
    except NoteError as error:
        yield f"{shard.origin}: the head of {head.size} entries is not signed by the log: {error}"
        return
    if (checkpoint.size, checkpoint.root) != (head.size, root):
        yield f"{shard.origin}: the entries do not lead to the signed root of {head.size} entries."
