"""What leaves the log as files: bundles of a selection, the proof of one entry; of bounded size."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from compliance.bundle import ranges_of
from platform_web.audit import selectors
from platform_web.audit.errors import UnfitError
from platform_web.audit.models import AuditEvent, AuditHead, AuditSeq

MOST_ENTRIES: Final = 20_000  # about 20 MB
MOST_INDICES: Final = 10_000
OLDER_HEADS: Final = 16  # so that a bundle also shows how the log grew


@dataclass(frozen=True)
class Selection:
    """Which entries: an empty field asks for all. ``since`` ≤ time < ``until``."""

    act: str = ""
    site: str = ""
    job: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def events(self) -> QuerySet[AuditEvent]:
        """Newest first."""
        wanted: dict[str, Any] = {name: value for name, value in asdict(self).items() if value}
        bounds = {"ts__gte": wanted.pop("since", None), "ts__lt": wanted.pop("until", None)}
        bounds = {name: value for name, value in bounds.items() if value is not None}
        return AuditEvent.objects.filter(**wanted, **bounds).order_by("-number")


def bundle_of(selection: Selection, year: int) -> tuple[str, int]:
    """The bundle of these entries in this year's tree, and how many they are.

    It ends in the newest head that the sites' quorum co-signed when that holds them all, else in the newest
    signed one. Raises UnfitError when nothing is signed yet or too much is asked for.
    """
    head = selectors.latest_head(year)
    if head is None:
        raise UnfitError(_("No entry of this year is signed yet. Try again in a minute."))
    found = AuditSeq.objects.filter(
        shard=year, idx__lt=head.size, event__in=selection.events().values("number")
    )
    indices = list(found.order_by("idx").values_list("idx", flat=True)[: MOST_ENTRIES + 1])
    if len(indices) > MOST_ENTRIES:
        raise UnfitError(
            _("More than %(most)s entries fit. Choose a shorter time, a run, a site or an act.")
            % {"most": MOST_ENTRIES}
        )
    if not indices:
        raise UnfitError(
            _("No signed entry fits. Widen the selection, or wait a minute for the newest ones.")
        )
    return _bundle(indices, _best_head(head, indices[-1])), len(indices)


def bundle_of_site(*, site: str, start: int, end: int) -> str | None:
    """The site's own entries start ≤ index < end of the tree that grows; None when there are none."""
    head = selectors.latest_head()
    if head is None:
        return None
    mine = AuditSeq.objects.filter(
        shard=head.shard, idx__gte=start, idx__lt=min(end, head.size), event__site=site
    )
    indices = list(mine.order_by("idx").values_list("idx", flat=True))
    return _bundle(indices, _best_head(head, indices[-1])) if indices else None


def proof_of(event: AuditEvent) -> str | None:
    """The proof of one entry; None while no signed head holds it."""
    place = selectors.place_of(event)
    head = head_for(place) if place else None
    return str(selectors.proof(place, head)) if place and head else None


def head_for(place: AuditSeq) -> AuditHead | None:
    """The head to prove an entry with: one the quorum co-signed if it holds the entry, else the newest."""
    head = selectors.latest_head(place.shard)
    return _best_head(head, place.idx) if head is not None and place.idx < head.size else None


def _best_head(newest: AuditHead, last: int) -> AuditHead:
    witnessed = selectors.witnessed_head(newest.shard)
    return witnessed if witnessed is not None and last < witnessed.size else newest


def _bundle(indices: list[int], head: AuditHead) -> str:
    heads = AuditHead.objects.filter(shard=head.shard, size__lt=head.size).order_by("-size")[:OLDER_HEADS]
    return "".join(selectors.bundle(head, ranges_of(indices), sorted(heads, key=lambda one: one.size)))
