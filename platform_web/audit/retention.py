"""Whether anything of the log is gone before its time: entries, and bodies that nobody agreed to erase."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.db import connection
from django.db.models import F, Func, IntegerField, Value
from django.utils import timezone

from compliance.events import FLOORS, kept_until
from platform_web.audit import selectors
from platform_web.audit.models import AuditBody, AuditEvent, AuditRedaction, AuditSeq

_COMMITS: Final = Value(b'"body_c":')
_PLACE: Final = {  # where it stands in the bytes of an entry, 0 for nowhere
    "sqlite": Func(F("leaf"), _COMMITS, function="instr", output_field=IntegerField()),
    "postgresql": Func(
        _COMMITS, F("leaf"), function="position", arg_joiner=" in ", output_field=IntegerField()
    ),
}


@dataclass(frozen=True)
class Removed:
    """What is missing although it had to be kept; entries that no signed head holds are not known here."""

    entries: int
    bodies: int


def removed_too_early() -> Removed:
    """Reads the whole log once; what stands in the entries is ``verification``'s matter."""
    longest = max(FLOORS.values())
    years = [
        one.year
        for one in selectors.shards()
        if datetime(one.year + 1, 1, 1, tzinfo=UTC) + longest > timezone.now()
    ]
    return Removed(sum(_missing_entries(year) for year in years), _missing_bodies())


def _missing_entries(year: int) -> int:
    """Of those under the year's newest signed head: without a place, or with a place and without bytes."""
    head = selectors.latest_head(year)
    placed = AuditSeq.objects.filter(shard=year, event__in=AuditEvent.objects.values("number"))
    signed = placed.filter(idx__lt=head.size).count() if head else 0
    orphans = AuditSeq.objects.filter(shard=year, idx__gte=head.size if head else 0)
    unsigned = orphans.exclude(event__in=AuditEvent.objects.values("number")).count()
    return (head.size - signed if head else 0) + unsigned


def _missing_bodies() -> int:
    """Entries that commit to a body which is gone, without an erasure in the log that was allowed then."""
    allowed = _erasures()
    held = AuditBody.objects.values("event_id")
    gone = AuditEvent.objects.annotate(place=_PLACE[connection.vendor]).filter(place__gt=0)
    missing = 0
    for event in gone.exclude(event_id__in=held).iterator():
        moments = allowed.get(str(event.event_id), ())
        missing += not any(
            is_misplaced or ts >= kept_until(event.act, event.ts) for is_misplaced, ts in moments
        )
    return missing


def _erasures() -> dict[str, list[tuple[bool, datetime]]]:
    """By the entry's id: whether its body was misplaced, and when it was erased, as the log has it."""
    found: dict[str, list[tuple[bool, datetime]]] = {}
    for event in AuditEvent.objects.filter(act="log.redacted").iterator():
        envelope = json.loads(bytes(event.leaf))
        is_misplaced = envelope["data"]["basis"] == AuditRedaction.Basis.MISPLACED
        found.setdefault(envelope["obj"][0]["id"], []).append((is_misplaced, event.ts))
    return found
