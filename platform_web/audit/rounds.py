"""The portal's own rounds through the stored entries: it sees by itself what somebody did to its database.

Every 30 s a tick hashes pieces of the log from the entries' bytes of that moment, up to what the signed heads
say: the newest piece, those that were broken before, then on from where the last tick ended. It ends after
BUDGET_S; one more piece may take 0.1 s. The columns that people filter by are left to ``consilium-audit
fsck``.
"""

import time
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone
from django.utils.translation import gettext as _

from compliance.note import Checkpoint, NoteError, VerifierKey, open_checkpoint
from compliance.pieces import PIECE
from platform_web.audit import recounting, selectors
from platform_web.audit.models import AuditRound

BUDGET_S: Final = 1.5
LATE: Final = timedelta(minutes=5)  # ten ticks
MOST_BROKEN = 100  # pieces that are remembered
MOST_AGAIN = 10  # of them, that a tick looks at before it goes on
MOST_NAMED = 5


@dataclass(frozen=True)
class Checked:
    """What a person, or a site, is told. ``since``: all ``size`` entries were hashed after it."""

    at: datetime
    since: datetime | None
    size: int
    findings: int
    first: str
    is_late: bool


def go_on(budget_s: float = BUDGET_S) -> Checked:
    """One tick: at least a piece, and no more than the rest of one round. Raises DatabaseError."""
    now, until = timezone.now(), time.monotonic() + budget_s
    state = AuditRound.objects.first() or AuditRound(checked=now, began=now)
    trees = [tree for shard in selectors.shards() if (tree := _Tree(shard.year, shard.key)).size]
    pieces = [(tree.year, start) for tree in trees for start in range(0, tree.size, PIECE)]
    by_year = {tree.year: tree for tree in trees}
    looked_at: set[tuple[int, int]] = set()

    def look(piece: tuple[int, int]) -> None:
        if piece not in looked_at:
            looked_at.add(piece)
            _remember(state.broken, "{}/{}".format(*piece), by_year[piece[0]].broken_at(piece[1]))

    again = [piece for piece in pieces if "{}/{}".format(*piece) in state.broken]
    for piece in [*pieces[-1:], *again[:MOST_AGAIN]]:
        look(piece)
    at = bisect_left(pieces, (state.year, state.start)) % max(len(pieces), 1)
    state.began = state.began if at else now
    for piece in pieces[at:]:
        look(piece)
        at += 1
        if time.monotonic() > until:
            break
    if pieces and at == len(pieces):
        state.whole_began, state.whole_size = state.began, sum(tree.size for tree in trees)
    state.year, state.start = pieces[at] if at < len(pieces) else (0, 0)
    state.checked = timezone.now()
    state.save()
    return _told(state)


def checked() -> Checked | None:
    """What the ticks found so far; None before the first."""
    state = AuditRound.objects.first()
    return _told(state) if state is not None else None


class _Tree:
    """A year's entries, beside its newest signed head."""

    def __init__(self, year: int, key: str) -> None:
        self.year = year
        head = selectors.latest_head(year)
        self.size = head.size if head is not None else 0
        self._root = _signed_root(head.note, key, self.size) if head is not None else None

    def broken_at(self, start: int) -> list[int] | None:
        """None when all is as it was signed; else the indices that are known, if any."""
        found = recounting.recount(year=self.year, size=self.size, start=start)
        if found is not None and found.altered:
            return found.altered[:MOST_NAMED]
        root = recounting.root(found, start, self.size) if found is not None else None
        if root is not None and root == self._root:
            return None
        recounting.write_down(self.year, start, min(start + PIECE, self.size))
        return []


def _signed_root(note: str, key: str, size: int) -> bytes | None:
    try:
        checkpoint: Checkpoint = open_checkpoint(note, VerifierKey.parse(key))[0]
    except NoteError:
        return None
    return checkpoint.root if checkpoint.size == size else None


def _remember(broken: dict[str, list[int]], name: str, indices: list[int] | None) -> None:
    if indices is None:
        broken.pop(name, None)
    elif name in broken or len(broken) < MOST_BROKEN:
        broken[name] = indices


def _told(state: AuditRound) -> Checked:
    return Checked(
        at=state.checked,
        since=state.whole_began,
        size=state.whole_size,
        findings=len(state.broken),
        first=next((_sentence(name, indices) for name, indices in state.broken.items()), ""),
        is_late=timezone.now() - state.checked > LATE,
    )


def _sentence(name: str, indices: list[int]) -> str:
    year, _slash, start = name.partition("/")
    named = {"year": year, "indices": ", ".join(map(str, indices)), "start": start}
    if indices:
        return _("In the log of %(year)s these entries are gone or were changed: %(indices)s.") % named
    return (
        _("In the log of %(year)s what is stored from entry %(start)s on does not lead to the signed head.")
        % named
    )
