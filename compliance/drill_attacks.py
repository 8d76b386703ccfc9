"""Five ways to rewrite rows of a copied log, in SQL, by somebody whom no trigger stops."""

import json
import secrets
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType

from compliance.canonical import CanonicalError, canonical_bytes
from compliance.merkle import leaf_hash


def copy_of(database: sqlite3.Connection) -> sqlite3.Connection:
    """A database in memory with the same rows, and without the triggers that refuse changes."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    database.backup(copy)
    for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        copy.execute(f'DROP TRIGGER "{name}"')
    return copy


def size_of(database: sqlite3.Connection) -> int:
    """How many entries there are."""
    return int(database.execute("SELECT count(*) FROM entry").fetchone()[0])


def leaves_of(database: sqlite3.Connection) -> list[bytes]:
    """All entries' bytes in order."""
    return [leaf for (leaf,) in database.execute("SELECT leaf FROM entry ORDER BY idx")]


def made_up_entry() -> bytes:
    """An entry like any other, with an id of its own."""
    return canonical_bytes({"v": 1, "id": str(uuid.uuid4()), "act": "drill.made_up", "out": "ok"})


def grow(database: sqlite3.Connection, count: int) -> int:
    """Append ``count`` entries; return it."""
    for _ in range(count):
        _put(database, size_of(database), made_up_entry())
    return count


def delete_one(database: sqlite3.Connection, size: int) -> str:
    at = secrets.randbelow(size)
    database.execute("DELETE FROM entry WHERE idx = ?", (at,))
    _shift(database, "idx > ?", at, -1)
    return f"entry {at} of {size} deleted"


def change_one(database: sqlite3.Connection, size: int) -> str:
    at = secrets.randbelow(size)
    (leaf,) = database.execute("SELECT leaf FROM entry WHERE idx = ?", (at,)).fetchone()
    changed = _changed(leaf)
    database.execute(
        "UPDATE entry SET leaf = ?, leaf_hash = ? WHERE idx = ?", (changed, leaf_hash(changed), at)
    )
    return f"entry {at} of {size} changed"


def insert_one(database: sqlite3.Connection, size: int) -> str:
    at = secrets.randbelow(size)
    _shift(database, "idx >= ?", at, 1)
    _put(database, at, made_up_entry())
    return f"an entry inserted before entry {at} of {size}"


def swap_two(database: sqlite3.Connection, size: int) -> str:
    first = secrets.randbelow(size)
    second = (first + 1 + secrets.randbelow(size - 1)) % size
    for old, new in ((first, -1), (second, first), (-1, second)):
        database.execute("UPDATE entry SET idx = ? WHERE idx = ?", (new, old))
    return f"entries {first} and {second} of {size} swapped"


def cut_and_regrow(database: sqlite3.Connection, size: int) -> str:
    kept = secrets.randbelow(size)
    database.execute("DELETE FROM entry WHERE idx >= ?", (kept,))
    grow(database, secrets.randbelow(size - kept + 1))
    return f"cut to {kept} of {size} entries and grown again"


ATTACKS: Mapping[str, Callable[[sqlite3.Connection, int], str]] = MappingProxyType(
    {
        "delete": delete_one,
        "change": change_one,
        "insert": insert_one,
        "swap": swap_two,
        "regrow": cut_and_regrow,
    }
)


def _put(database: sqlite3.Connection, index: int, leaf: bytes) -> None:
    row = (index, f"drill {uuid.uuid4()}", leaf, leaf_hash(leaf))
    database.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", row)


def _shift(database: sqlite3.Connection, where: str, at: int, by: int) -> None:
    """Move rows by one place; over negative numbers, since an index is taken until its row has moved."""
    database.execute(f"UPDATE entry SET idx = -(idx + ?) - 1 WHERE {where}", (by, at))  # noqa: S608
    database.execute("UPDATE entry SET idx = -idx - 1 WHERE idx < 0")


def _changed(leaf: bytes) -> bytes:
    """Another entry with the same id: the outcome is turned round, which is what one would want to hide."""
    try:
        entry = json.loads(leaf)
        entry["out"] = "deny" if entry.get("out") == "ok" else "ok"
        return canonical_bytes(entry)
    except (ValueError, TypeError, AttributeError, CanonicalError):
        return leaf + b" "
