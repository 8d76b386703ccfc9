"""Checking the whole log against itself: bytes, hashes, columns, places, tiles and every signed head.

A verifier of one's own needs no trust in this one: it takes a bundle (``compliance.bundle``).
"""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db.models import F

from compliance.canonical import CanonicalError, parse_canonical
from compliance.merkle import Frontier, leaf_hash
from compliance.note import NoteError, VerifierKey, open_checkpoint
from compliance.tiles import WIDTH, split_hashes
from platform_web.audit import services
from platform_web.audit.models import AuditEvent, AuditHead, AuditSeq, AuditShard, AuditTile

CHUNK = 2000
MOST_FINDINGS = 20


@dataclass
class Verification:
    """What was found. ``verified`` entries are whole and, once they have a place, where their tree has them."""

    entries: int = 0
    verified: int = 0
    heads: int = 0
    heads_verified: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return self.entries == self.verified and self.heads == self.heads_verified and not self.findings

    def found(self, sentence: str) -> None:
        """Keep a sentence for the log of the process; the first few say enough."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(sentence)


def verify_all() -> Verification:
    """Read every entry once. Memory does not grow with the log."""
    result = Verification()
    for shard in AuditShard.objects.order_by("year"):
        _verify_shard(shard, result)
    for event in AuditEvent.objects.filter(seq__isnull=True).iterator(chunk_size=CHUNK):
        result.entries += 1
        result.verified += _is_intact(event)
    return result


def _verify_shard(shard: AuditShard, result: Verification) -> None:
    tree = _Tree(shard, result)
    places = AuditSeq.objects.filter(shard=shard.year).order_by("idx").select_related("event")
    for place in places.iterator(chunk_size=CHUNK):
        tree.take(place)
    tree.close()


class _Tree:
    """One tree from its leaves, beside what the tables say of it."""

    def __init__(self, shard: AuditShard, result: Verification) -> None:
        self._shard, self._result = shard, result
        self._key = VerifierKey.parse(shard.key)
        self._frontier = Frontier()
        self._row: list[bytes] = []
        heads = AuditHead.objects.filter(shard=shard.year).order_by("size")
        self._heads = heads.iterator(chunk_size=CHUNK)
        self._head = next(self._heads, None)
        tiles = AuditTile.objects.filter(shard=shard.year, level=0).order_by("n")
        self._tiles: Iterator[AuditTile] = tiles.iterator(chunk_size=WIDTH)

    def take(self, place: AuditSeq) -> None:
        """The next leaf, from the entry's own bytes."""
        result, event = self._result, place.event
        digest = leaf_hash(bytes(event.leaf))
        result.entries += 1
        if place.idx != self._frontier.size:
            result.found(f"{self._shard.origin} has no entry {self._frontier.size}.")
        if digest == bytes(place.leaf_hash) and _is_intact(event):
            result.verified += 1
        else:
            result.found(f"Entry {place.idx} of {self._shard.origin} was changed.")
        self._frontier.append(digest)
        self._row.append(digest)
        if len(self._row) == WIDTH:
            self._compare_tile()
        self._compare_heads()

    def close(self) -> None:
        """What is left: heads of more entries than there are, tiles beyond the last entry."""
        while self._head is not None:
            self._result.heads += 1
            self._result.found(f"{self._shard.origin} lacks entries below its head of {self._head.size}.")
            self._head = next(self._heads, None)
        if next(self._tiles, None) is not None:
            self._result.found(f"{self._shard.origin} has tiles of entries that it lacks.")

    def _compare_tile(self) -> None:
        tile = next(self._tiles, None)
        if tile is None or split_hashes(bytes(tile.hashes)) != self._row:
            self._result.found(f"A tile of {self._shard.origin} near {self._frontier.size} was changed.")
        self._row = []

    def _compare_heads(self) -> None:
        while self._head is not None and self._head.size == self._frontier.size:
            self._result.heads += 1
            if self._fits(self._head):
                self._result.heads_verified += 1
            else:
                self._result.found(f"The head of {self._head.size} of {self._shard.origin} does not fit.")
            self._head = next(self._heads, None)

    def _fits(self, head: AuditHead) -> bool:
        try:
            checkpoint, _ = open_checkpoint(head.note, self._key)
        except NoteError:
            return False
        return (checkpoint.size, checkpoint.root) == (head.size, self._frontier.root())


def _is_intact(event: AuditEvent) -> bool:
    """Whether the bytes, their hash and the columns that people filter by agree."""
    leaf = bytes(event.leaf)
    try:
        envelope = parse_canonical(leaf)
    except CanonicalError:
        return False
    if not isinstance(envelope, dict) or not hmac.compare_digest(leaf_hash(leaf), bytes(event.leaf_hash)):
        return False
    try:
        columns = services.columns(envelope)
    except (KeyError, TypeError, AttributeError):  # bytes that somebody else put there
        return False
    return all(getattr(event, name) == value for name, value in columns.items())
