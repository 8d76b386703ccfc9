"""Where the two databases differ for the sequencer: the order of entries, many rows at once, who leads."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection

from compliance.tiles import Tile
from platform_web.audit.errors import AuditError
from platform_web.audit.models import AuditSeq, AuditShard

LEADER = int.from_bytes(hashlib.sha256(b"consilium audit sequencer").digest()[:8], "big", signed=True)
SHARD_OPENED = "log.shard_opened"
# Ordered by the columns and not by texts: `xid::text AS xid … ORDER BY xid` is another order.
# Below the oldest open transaction everything is decided: nothing commits later before the cursor.
WAITING = """
SELECT audit_event.pk, audit_event.id::text, audit_event.leaf, audit_event.act FROM audit_event
WHERE audit_event.xid < pg_snapshot_xmin(pg_current_snapshot())
AND (audit_event.xid, audit_event.pk) > (%s::xid8, %s)
ORDER BY audit_event.xid, audit_event.pk LIMIT %s
"""
# Django keeps a UUID as 32 letters there; writers take turns, so numbers are in the order of commits
WAITING_IN_SQLITE = """
SELECT pk, substr(id, 1, 8) || '-' || substr(id, 9, 4) || '-' || substr(id, 13, 4) || '-' || substr(id, 17, 4)
|| '-' || substr(id, 21), leaf, act FROM audit_event WHERE pk > %s ORDER BY pk LIMIT %s
"""


class Waiting(NamedTuple):
    """An entry that has no place yet."""

    number: int
    event_id: str
    leaf: bytes


def waiting(limit: int) -> list[Waiting]:
    """The next entries in the order of the tree, at most ``limit``.

    Raises AuditError when PostgreSQL counts its transactions anew, so that the order is lost.
    """
    last = _last_place()
    with connection.cursor() as cursor:  # models would cost as much again as all the rest
        if connection.vendor == "postgresql":
            xid = _transaction_of(last) if last is not None else "0"
            cursor.execute(WAITING, [xid, last or 0, limit])
        else:
            cursor.execute(WAITING_IN_SQLITE, [last or 0, limit])
        rows = cursor.fetchall()
    opened = [row[0] for row in rows if row[3] == SHARD_OPENED]  # they got their place when they were written
    placed = (
        set(AuditSeq.objects.filter(event__in=opened).values_list("event", flat=True)) if opened else set()
    )
    return [Waiting(row[0], row[1], bytes(row[2])) for row in rows if row[0] not in placed]


def _last_place() -> int | None:
    """The number of the last entry that got its place in order: not one that opened a shard."""
    first = AuditShard.objects.order_by("year").values_list("year", flat=True).first()
    places = AuditSeq.objects.order_by("-shard", "-idx").values_list("shard", "idx", "event")[:2]
    for shard, idx, event in places:
        if idx or shard == first:
            return int(event)
    return None


def _transaction_of(number: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT xid::text, xid >= pg_snapshot_xmax(pg_current_snapshot()) FROM audit_event WHERE pk = %s",
            [number],
        )
        xid, is_ahead = cursor.fetchone()
    if is_ahead:
        raise AuditError(
            "PostgreSQL counts its transactions anew: this database was restored from a dump. Stop it and "
            f"set its next transaction beyond {xid} with pg_resetwal; no entry gets a place before."
        )
    return str(xid)


def insert_places(year: int, start: int, places: Sequence[tuple[int, bytes]]) -> None:
    """Give entries (number, leaf hash) the places from ``start`` on."""
    rows = ((year, start + at, number, digest) for at, (number, digest) in enumerate(places))
    _insert("audit_seq", ("shard", "idx", "event", "leaf_hash"), rows)


def insert_tiles(year: int, tiles: Sequence[Tile]) -> None:
    """Keep tiles that became full."""
    rows = ((year, tile.level, tile.n, tile.data, tile.root) for tile in tiles)
    _insert("audit_tile", ("shard", "level", "n", "hashes", "root"), rows)


def _insert(table: str, columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> None:
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            copying = cursor.copy(f"COPY {table} ({names}) FROM STDIN")  # Django does not wrap its errors
            with connection.wrap_database_errors, copying as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(rows))  # noqa: S608 our own names


@contextmanager
def leadership() -> Iterator[bool]:
    """Whether this process is the only sequencer for as long as the block runs.

    PostgreSQL forgets it with the connection; a sequencer whose connection broke can write nothing either.
    """
    with _lock_in_postgresql() if connection.vendor == "postgresql" else _lock_beside_sqlite() as held:
        yield held


@contextmanager
def _lock_in_postgresql() -> Iterator[bool]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LEADER])
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held and connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LEADER])


@contextmanager
def _lock_beside_sqlite() -> Iterator[bool]:
    path = Path(settings.CONSILIUM_HOME) / "audit-sequencer.lock"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        yield _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
