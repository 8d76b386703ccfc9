"""A log of entries in one SQLite file: appended durably by several processes, changed by none.

WAL with ``synchronous=FULL``: an append that returned outlives a power cut. Full tiles are made when a
checkpoint is due, not at each append.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from compliance.canonical import MAX_BYTES
from compliance.merkle import leaf_hash
from compliance.tiles import WIDTH, Edge, TiledTree, split_hashes

_TABLES = f"""
CREATE TABLE IF NOT EXISTS entry (
  idx INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
  leaf BLOB NOT NULL CHECK (length(leaf) <= {MAX_BYTES}),
  leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32)
) STRICT;
CREATE TABLE IF NOT EXISTS tile (
  level INTEGER NOT NULL, n INTEGER NOT NULL, hashes BLOB NOT NULL, root BLOB NOT NULL, PRIMARY KEY (level, n)
) STRICT;
CREATE TABLE IF NOT EXISTS head (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
"""
TABLES = ("entry", "tile", "head")
_HASHES = "SELECT leaf_hash FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"
_READ_AT_ONCE = 1000
_TRIGGER = """
CREATE TRIGGER IF NOT EXISTS {table}_no_{act} BEFORE {act} ON {table}
BEGIN SELECT RAISE(ABORT, 'entries of the log are never changed'); END;
"""


class LogUnavailableError(OSError):
    """The file could not be written or read: full disk, damage, another process that holds it too long."""


class SqliteLog:
    """One file, one tree. An object may be used from several threads."""

    def __init__(self, path: Path, *, timeout_s: float = 1.0) -> None:
        """Open, or make it; ``timeout_s``: the wait for another writer. Raises LogUnavailableError."""
        self._path, self._lock = path, threading.RLock()
        with _said(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(
                path, timeout=timeout_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except sqlite3.Error:
                self._database.close()
                raise

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        triggers = (_TRIGGER.format(table=table, act=act) for table in TABLES for act in ("UPDATE", "DELETE"))
        self._database.executescript("BEGIN IMMEDIATE;" + _TABLES + "".join(triggers) + "COMMIT;")

    def close(self) -> None:
        """Give the file back."""
        self._database.close()

    def append(self, entry_id: str, leaf: bytes) -> int:
        """The index of the entry, which is on disk then. The same entry again gives the same index.

        Raises LogUnavailableError, ValueError for other bytes under an id that is taken.
        """
        return self.extend([(entry_id, leaf)])[0]

    def extend(self, entries: Sequence[tuple[str, bytes]]) -> list[int]:
        """Append these, all or none, in one transaction. Raises as ``append``."""
        with self._transaction():
            return [self._placed(entry_id, leaf) for entry_id, leaf in entries]

    def _placed(self, entry_id: str, leaf: bytes) -> int:
        if known := self._rows("SELECT idx, leaf FROM entry WHERE id = ?", (entry_id,)):
            if known[0][1] != leaf:
                raise ValueError(f"The id {entry_id} is taken by another entry.")
            return int(known[0][0])
        index = self._count("entry", "idx")
        sql = "INSERT INTO entry (idx, id, leaf, leaf_hash) VALUES (?, ?, ?, ?)"
        self._rows(sql, (index, entry_id, leaf, leaf_hash(leaf)))
        return index

    def size(self) -> int:
        """How many entries there are."""
        return self._count("entry", "idx")

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """The stored bytes of start ≤ index < end, in order."""
        for begin in range(start, end, _READ_AT_ONCE):
            sql = "SELECT leaf FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"
            yield from (leaf for (leaf,) in self._rows(sql, (begin, min(begin + _READ_AT_ONCE, end))))

    def tree(self) -> TiledTree:
        """The tree of all entries as of now; tiles that became full are kept."""
        with self._transaction():
            size = self.size()
            self._keep_tiles(size)
        return TiledTree(size, self.row)

    def row(self, level: int, start: int, end: int) -> Sequence[bytes]:
        """A ``compliance.tiles.Row``."""
        if end - start == WIDTH:
            sql = "SELECT hashes FROM tile WHERE level = ? AND n = ?"
            if found := self._rows(sql, (level, start // WIDTH)):
                return split_hashes(found[0][0])
        if level == 0:
            found = self._rows(_HASHES, (start, end))
        else:
            sql = "SELECT root FROM tile WHERE level = ? AND n >= ? AND n < ? ORDER BY n"
            found = self._rows(sql, (level - 1, start, end))
        return [digest for (digest,) in found]

    def add_head(self, size: int, note: str) -> None:
        """Keep a signed checkpoint; one of a size that is there stays as it is."""
        with self._transaction():
            self._rows("INSERT INTO head VALUES (?, ?) ON CONFLICT DO NOTHING", (size, note))

    def newest_head(self) -> str | None:
        """The signed checkpoint of the largest size."""
        found = self._rows("SELECT note FROM head ORDER BY size DESC LIMIT 1")
        return str(found[0][0]) if found else None

    def head_sizes(self, after: int, before: int) -> list[int]:
        """The sizes between these two of which a head was signed, ascending."""
        sql = "SELECT size FROM head WHERE size > ? AND size < ? ORDER BY size"
        return [size for (size,) in self._rows(sql, (after, before))]

    def _keep_tiles(self, size: int) -> None:
        """Make the tiles that entries have filled since the last one. Within a transaction."""
        start = WIDTH * int(self._rows("SELECT coalesce(max(n) + 1, 0) FROM tile WHERE level = 0")[0][0])
        if size - start < WIDTH:
            return
        edge = Edge(start, self.row)
        for (digest,) in self._rows(_HASHES, (start, size - size % WIDTH)):
            for tile in edge.append(digest):
                row = (tile.level, tile.n, tile.data, tile.root)
                self._rows("INSERT INTO tile VALUES (?, ?, ?, ?)", row)

    def _count(self, table: str, column: str) -> int:
        return int(self._rows(f"SELECT coalesce(max({column}) + 1, 0) FROM {table}")[0][0])  # noqa: S608

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock, _said(self._path):
            return self._database.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One writer at a time, in this process and among all; left by an error, nothing is written."""
        with self._lock:
            self._rows("BEGIN IMMEDIATE")
            try:
                yield
                self._rows("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has rolled back by itself when the disk is full
                    self._database.execute("ROLLBACK")
                raise


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LogUnavailableError(f"{path}: {error}") from error
