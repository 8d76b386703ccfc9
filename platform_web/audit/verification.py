"""Checking the whole log against itself: bytes, hashes, columns, places, tiles and every signed head.

A verifier of one's own needs no trust in this one: it takes a bundle (``compliance.bundle``).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.utils.translation import gettext as _

from compliance.canonical import CanonicalError
from compliance.envelope import read_envelope
from compliance.merkle import Frontier, leaf_hash
from compliance.note import NoteError, VerifierKey, open_checkpoint
from compliance.tiles import HEIGHT, WIDTH, full_root
from platform_web.audit import services
from platform_web.audit.models import AuditEvent, AuditHead, AuditSeq, AuditShard, AuditTile

CHUNK = 2000
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
    """One tree from the entries' bytes, beside what the tables say of it: a tile of leaves at a time."""
    tree = _Tree(shard, result)
    rows = AuditSeq.objects.filter(shard=shard.year).order_by("idx")
    places = rows.values_list("idx", "leaf_hash", "event", "event__leaf").iterator(chunk_size=CHUNK)
    while block := list(islice(places, WIDTH)):
        tree.take(block)
    tree.close()


class _Tree:
    def __init__(self, shard: AuditShard, result: Verification) -> None:
        self._origin, self._result = shard.origin, result
        self._key = VerifierKey.parse(shard.key)
        self._frontier = Frontier()
        self._heads: Iterator[AuditHead] = (
            AuditHead.objects.filter(shard=shard.year).order_by("size").iterator(chunk_size=CHUNK)
        )
        self._head = next(self._heads, None)
        tiles = AuditTile.objects.filter(shard=shard.year, level=0).order_by("n")
        self._tiles: Iterator[Any] = tiles.values_list("hashes", "root").iterator(chunk_size=WIDTH)

    def take(self, block: Sequence[Any]) -> None:
        """The next leaves, hashed from the entries' own bytes."""
        result, start = self._result, self._frontier.size
        digests = [leaf_hash(leaf) for *_place, leaf in block]
        for at, ((index, kept, number, _leaf), digest) in enumerate(zip(block, digests, strict=True)):
            if digest != kept:
                result.changed.add(number)
            if index != start + at:
                result.found(_("%(log)s: entry %(index)d is missing.") % self._named(start + at))
                break
        if len(block) == WIDTH:
            self._compare_tile(digests)
        if len(block) == WIDTH and (self._head is None or self._head.size > start + WIDTH):
            self._frontier.append(full_root(digests), HEIGHT)
            return
        for digest in digests:
            self._frontier.append(digest)
            self._compare_heads()

    def close(self) -> None:
        """What is left: heads of more entries than there are, tiles beyond the last entry."""
        for head in ([self._head] if self._head is not None else []) + list(islice(self._heads, 1)):
            self._result.found(
                _("%(log)s: entries below the signed head of %(index)d are missing.") % self._named(head.size)
            )
        if next(self._tiles, None) is not None:
            self._result.found(_("%(log)s: there are tiles of entries that are missing.") % self._named(0))

    def _named(self, index: int) -> dict[str, object]:
        return {"log": self._origin, "index": index}

    def _compare_tile(self, digests: list[bytes]) -> None:
        hashes, root = next(self._tiles, (b"", b""))
        if bytes(hashes) != b"".join(digests) or bytes(root) != full_root(digests):
            n = self._frontier.size // WIDTH
            self._result.found(_("%(log)s: tile %(index)d is not that of its entries.") % self._named(n))

    def _compare_heads(self) -> None:
        while self._head is not None and self._head.size <= self._frontier.size:
            self._result.heads += 1
            if not self._fits(self._head):
                named = self._named(self._head.size)
                self._result.found(_("%(log)s: the head of %(index)d does not fit its entries.") % named)
            self._head = next(self._heads, None)

    def _fits(self, head: AuditHead) -> bool:
        try:
            checkpoint, _note = open_checkpoint(head.note, self._key)
        except NoteError:
            return False
        return (checkpoint.size, checkpoint.root) == (self._frontier.size, self._frontier.root())
