"""Where the two databases differ for the sequencer: the order of entries, many rows at once, who leads."""

import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from django.conf import settings
from django.db import connection

from compliance.tiles import WIDTH, Tile
from platform_web.audit.errors import AuditError
from platform_web.audit.models import AuditEvent, AuditSeq, AuditShard

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


INSERT = """
INSERT INTO audit_event (id, leaf, leaf_hash, ts, org, site, act, actor, obj, job)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING pk
"""
FIELDS = [field.attname for field in AuditEvent._meta.concrete_fields]
# In one statement, so that it is one moment of the log: all of these tables only grow.
EXTENT = """
SELECT (SELECT max(idx) FROM audit_seq WHERE shard = %s), (SELECT max(size) FROM audit_head WHERE shard = %s),
(SELECT max(n) FROM audit_tile WHERE shard = %s AND level = 0)
"""
PLACES = """
SELECT audit_seq.idx, audit_seq.leaf_hash, audit_seq.event, audit_event.leaf FROM audit_seq
JOIN audit_event ON audit_event.pk = audit_seq.event
WHERE audit_seq.shard = %s AND audit_seq.idx > %s AND audit_seq.idx <= %s ORDER BY audit_seq.idx LIMIT %s
"""
LOW_TILES = """
SELECT n, hashes, root FROM audit_tile
WHERE shard = %s AND level = 0 AND n > %s AND n <= %s ORDER BY n LIMIT %s
"""
BELOW_ALL = -(2**63)
Place: TypeAlias = tuple[int, bytes, int, bytes]  # index, kept leaf hash, number and bytes of the entry


class Extent(NamedTuple):
    """The last index, head and lowest tile of a tree at one moment; below zero where there is none."""

    places: int
    heads: int
    tiles: int


class LowTile(NamedTuple):
    """A full tile of leaves."""

    n: int
    hashes: bytes
    root: bytes


class Waiting(NamedTuple):
    """An entry that has no place yet."""

    number: int
    event_id: str
    leaf: bytes


class EventRow(NamedTuple):
    """An entry before it has its number: the fields of ``AuditEvent``, in their order."""

    event_id: uuid.UUID
    leaf: bytes
    leaf_hash: bytes
    ts: datetime
    org: str
    site: str
    act: str
    actor: str
    obj: str
    job: str


def insert_event(row: EventRow) -> AuditEvent:
    """Insert the entry, in the caller's transaction; ``save`` costs twice as much. Raises DatabaseError."""
    values: tuple[Any, ...] = row
    if connection.vendor != "postgresql":
        ts = connection.ops.adapt_datetimefield_value(row.ts)
        values = (row.event_id.hex, row.leaf, row.leaf_hash, ts, *row[4:])
    with _cursor() as cursor:
        cursor.execute(INSERT, values)
        number = cursor.fetchone()[0]
    return AuditEvent.from_db(connection.alias, FIELDS, [number, *row])


def _cursor() -> Any:
    """For statements of a hot path: on PostgreSQL prepared, and their rows in binary."""
    return getattr(connection, "prepared_cursor", connection.cursor)()


def waiting(limit: int) -> list[Waiting]:
    """The next entries in the order of the tree, at most ``limit``.

    Raises AuditError when PostgreSQL counts its transactions anew, so that the order is lost.
    """
    last = _last_place()
    with _cursor() as cursor:  # models would cost as much again as all the rest
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


def extent(year: int) -> Extent:
    """How far this year's tree goes."""
    with _cursor() as cursor:
        cursor.execute(EXTENT, [year] * 3)
        return Extent(*(-1 if last is None else last for last in cursor.fetchone()))


def places(year: int, after: int, last: int, limit: int) -> Iterator[list[Place]]:
    """At most ``limit`` leaves behind index ``after`` up to ``last``, a tile of them at a time.

    On PostgreSQL nothing else can be asked before the end of it: while we hash, the server goes on reading.
    """
    parameters = [year, after, last, limit]
    with _cursor() as cursor, connection.wrap_database_errors:
        if connection.vendor == "postgresql":
            rows = cursor.stream(PLACES, parameters)
        else:
            rows = cursor.execute(PLACES, parameters)
        while block := list(islice(rows, WIDTH)):
            yield block


def low_tiles(year: int, after: int, last: int, limit: int) -> list[LowTile]:
    """At most ``limit`` of the lowest tiles behind number ``after`` up to ``last``."""
    with _cursor() as cursor:
        cursor.execute(LOW_TILES, [year, after, last, limit])
        return [LowTile(*row) for row in cursor.fetchall()]


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
