"""A log in a SQLite file: contiguous under many writers, never changed, fast to prove."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance.merkle import leaf_hash, root_hash
from compliance.sqlite_log import TABLES, LogUnavailableError, SqliteLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "log" / "2026.sqlite3")
    yield log
    log.close()


def test_entries_stand_in_the_order_in_which_they_came(log: SqliteLog, tmp_path: Path) -> None:
    assert [log.append(str(n), b"%d" % n) for n in range(5)] == list(range(5))
    log.close()
    again = SqliteLog(tmp_path / "log" / "2026.sqlite3")
    assert list(again.leaves(1, 4)) == [b"1", b"2", b"3"]
    assert again.append("5", b"5") == 5


def test_the_same_entry_again_is_no_second_one(log: SqliteLog) -> None:
    assert log.append("a", b"x") == log.append("a", b"x") == 0
    with pytest.raises(ValueError, match="taken"):
        log.append("a", b"y")
    assert log.size() == 1


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700])
def test_its_tree_is_that_of_its_leaves(log: SqliteLog, size: int) -> None:
    leaves = [b"%d" % n for n in range(size)]
    for n, leaf in enumerate(leaves):
        log.append(str(n), leaf)
        if n in (100, 300):
            log.tree()  # tiles are made in steps too
    assert log.tree()(0, size) == root_hash(map(leaf_hash, leaves))
    assert log.tree()(0, size) == root_hash(map(leaf_hash, leaves))


@pytest.mark.parametrize("table", TABLES)
def test_the_file_refuses_changes(log: SqliteLog, tmp_path: Path, table: str) -> None:
    log.append("a", b"x")
    log.add_head(1, "note")
    database = sqlite3.connect(tmp_path / "log" / "2026.sqlite3")
    database.execute("INSERT INTO tile VALUES (0, 0, x'00', x'00')")
    for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = rowid + 1"):
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            database.execute(sql)
    database.close()


def test_the_newest_head_is_the_largest(log: SqliteLog) -> None:
    assert log.newest_head() is None
    for size, note in ((3, "three"), (12, "twelve"), (12, "else"), (7, "seven")):
        log.add_head(size, note)
    assert log.newest_head() == "twelve"


def test_threads_and_objects_write_beside_each_other(log: SqliteLog, tmp_path: Path) -> None:
    other = SqliteLog(tmp_path / "log" / "2026.sqlite3", timeout_s=20)

    def write(name: str, where: SqliteLog) -> None:
        for n in range(25):
            where.append(f"{name}{n}", f"{name}{n}".encode())

    slow = SqliteLog(tmp_path / "log" / "2026.sqlite3", timeout_s=20)
    threads = [threading.Thread(target=write, args=(f"t{n}", (slow, other)[n % 2])) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.size() == len(set(log.leaves(0, 100))) == 100


def test_a_writer_that_holds_the_file_costs_a_second_not_the_process(log: SqliteLog, tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "log" / "2026.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailableError, match="locked"):
        log.append("a", b"x")
    holder.execute("ROLLBACK")
    holder.close()
    assert log.append("a", b"x") == 0


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(LogUnavailableError, match="not a database"):
        SqliteLog(tmp_path / "x.sqlite3")


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "2026.sqlite3"
    program = (
        "import itertools, pathlib, sys\nfrom compliance.sqlite_log import SqliteLog\n"
        "log = SqliteLog(pathlib.Path(sys.argv[1]))\n"
        "for n in itertools.count(): print(log.append(str(n), b'%d' % n), flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        acknowledged += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    log = SqliteLog(path)
    assert acknowledged == list(range(len(acknowledged)))
    assert log.size() >= len(acknowledged)
    assert list(log.leaves(0, log.size())) == [b"%d" % n for n in range(log.size())]
