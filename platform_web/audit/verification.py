"""Checking the whole log against itself: bytes, hashes, columns, places, tiles and every signed head.

A verifier of one's own needs no trust in this one: it takes a bundle (``compliance.bundle``).
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from compliance.canonical import CanonicalError
from compliance.envelope import read_envelope
from compliance.merkle import Frontier, leaf_hash
from compliance.note import NoteError, VerifierKey, open_checkpoint
from compliance.tiles import HEIGHT, WIDTH, full_root
from platform_web.audit import services, storage
from platform_web.audit.models import AuditEvent, AuditHead, AuditShard

CHUNK = 2000
PAGE = 64 * WIDTH  # leaves, some megabytes
MOST_FINDINGS = 20


@dataclass
class Verification:
    """What was found: ``changed`` names entries by number, ``findings`` what is wrong with the trees."""

    entries: int = 0
    heads: int = 0
    changed: set[int] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)

    @property
    def verified(self) -> int:
        """Entries whose bytes, hash, columns and place agree."""
        return self.entries - len(self.changed)

    @property
    def is_whole(self) -> bool:
        return not self.changed and not self.findings

    def found(self, sentence: str) -> None:
        """The first few say enough."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(sentence)


def verify_all() -> Verification:
    """Read everything once; memory does not grow with the log."""
    result = Verification()
    verify_columns(result)
    for shard in AuditShard.objects.order_by("year"):
        verify_tree(shard, result)
    return result


def verify_columns(result: Verification) -> None:
    """Each entry's bytes against their hash and the columns that people filter by."""
    for event in AuditEvent.objects.order_by("number").iterator(chunk_size=CHUNK):
        result.entries += 1
        if not is_intact(event):
            result.changed.add(event.number)


def is_intact(event: AuditEvent) -> bool:
    """Whether bytes, hash and the columns that people filter by agree."""
    leaf = bytes(event.leaf)
    try:
        named = read_envelope(leaf)
        columns = services.columns(json.loads(leaf))
    except (CanonicalError, LookupError, TypeError, AttributeError):  # bytes that somebody else put there
        return False
    return (
        leaf_hash(leaf) == bytes(event.leaf_hash)
        and (named.id, named.ts) == (str(event.event_id), services.stamp(event.ts))
        and all(getattr(event, name) == value for name, value in columns.items())
    )


def verify_tree(shard: AuditShard, result: Verification) -> None:
    """One tree from the entries' bytes, beside what the tables say of it: a tile of leaves at a time.

    It is the tree of one moment: what the sequencer adds while this goes on is left for the next time.
    """
    tree = _Tree(shard, storage.extent(shard.year), result)
    while not tree.is_read:
        tree.read_page()
    tree.close()


class _Tree:
    """Heads and tiles of a page are read before its leaves: those keep the connection to themselves."""

    def __init__(self, shard: AuditShard, extent: storage.Extent, result: Verification) -> None:
        self._origin, self._year, self._extent, self._result = shard.origin, shard.year, extent, result
        self._key = VerifierKey.parse(shard.key)
        self._frontier = Frontier()
        self._heads: deque[AuditHead] = deque()
        self._tiles: deque[storage.LowTile] = deque()
        self._last_place = self._last_head = self._last_tile = storage.BELOW_ALL
        self.is_read = False

    def read_page(self) -> None:
        """The next leaves, at most PAGE."""
        self._look_ahead()
        end = self._frontier.size + PAGE
        for block in storage.places(self._year, self._last_place, self._extent.places, PAGE):
            self._take(block)
            self._last_place = block[-1][0]
        self.is_read = self._frontier.size < end

    def _look_ahead(self) -> None:
        heads = self._heads_after(self._last_head).filter(size__lte=self._frontier.size + PAGE)
        self._heads += heads
        lacking = PAGE // WIDTH - len(self._tiles)
        self._tiles += storage.low_tiles(self._year, self._last_tile, self._extent.tiles, lacking)
        self._last_head = self._heads[-1].size if self._heads else self._last_head
        self._last_tile = self._tiles[-1].n if self._tiles else self._last_tile

    def _heads_after(self, size: int) -> QuerySet[AuditHead]:
        heads = AuditHead.objects.filter(shard=self._year, size__gt=size, size__lte=self._extent.heads)
        return heads.order_by("size")

    def _take(self, block: Sequence[storage.Place]) -> None:
        """The next leaves, hashed from the entries' own bytes."""
        start = self._frontier.size
        indices, kept, _numbers, leaves = zip(*block, strict=True)
        digests = [leaf_hash(leaf) for leaf in leaves]
        if list(kept) != digests or list(indices) != list(range(start, start + len(block))):
            self._look_closer(block, digests)
        root = full_root(digests) if len(block) == WIDTH else None
        if root is not None:
            self._compare_tile(digests, root)
        if root is not None and (not self._heads or self._heads[0].size > start + WIDTH):
            self._frontier.append(root, HEIGHT)
            return
        for digest in digests:
            self._frontier.append(digest)
            self._compare_heads()

    def close(self) -> None:
        """What is left: heads of more entries than there are, tiles beyond the last entry."""
        for head in [*self._heads, *self._heads_after(self._last_head)[:2]][:2]:
            self._result.found(
                _("%(log)s: entries below the signed head of %(index)d are missing.") % self._named(head.size)
            )
        if self._tiles:
            self._result.found(_("%(log)s: there are tiles of entries that are missing.") % self._named(0))

    def _named(self, index: int) -> dict[str, object]:
        return {"log": self._origin, "index": index}

    def _look_closer(self, block: Sequence[storage.Place], digests: Sequence[bytes]) -> None:
        """Which of these leaves is not what its place says, and which place is missing."""
        pairs = zip(block, digests, strict=True)
        for at, ((index, kept, number, _leaf), digest) in enumerate(pairs, self._frontier.size):
            if digest != kept:
                self._result.changed.add(number)
            if index != at:
                self._result.found(_("%(log)s: entry %(index)d is missing.") % self._named(at))
                break

    def _compare_tile(self, digests: list[bytes], root: bytes) -> None:
        tile = self._tiles.popleft() if self._tiles else None
        if tile is None or (tile.hashes, tile.root) != (b"".join(digests), root):
            n = self._frontier.size // WIDTH
            self._result.found(_("%(log)s: tile %(index)d is not that of its entries.") % self._named(n))

    def _compare_heads(self) -> None:
        while self._heads and self._heads[0].size <= self._frontier.size:
            head = self._heads.popleft()
            self._result.heads += 1
            if not self._fits(head):
                named = self._named(head.size)
                self._result.found(_("%(log)s: the head of %(index)d does not fit its entries.") % named)

    def _fits(self, head: AuditHead) -> bool:
        try:
            checkpoint, _note = open_checkpoint(head.note, self._key)
        except NoteError:
            return False
        return (checkpoint.size, checkpoint.root) == (self._frontier.size, self._frontier.root())
