"""The second sink: what a crash leaves of it, what is replayed, and that one bad file holds nothing up."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from platform_web.audit import services, spool
from platform_web.audit.models import AuditEvent

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.django_db(transaction=True)


def keep(**data):
    return spool.keep(act="request.refused", out="error", data={"url": "sign_in", "done": "no"} | data)


def leaf(**changes):
    return services.draft(
        **{"act": "request.refused", "out": "error", "data": {"url": "u", "done": "no"}} | changes
    )


def put(content, name=None, *, unfinished=False, age_s=3600):
    """A file in the spool as a process that is gone left it."""
    spool.folder().mkdir(exist_ok=True)
    name = name or json.loads(content)["id"]
    path = spool.folder() / f"{'.' if unfinished else ''}{name}.json"
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_what_was_kept_is_in_the_log_once_with_id_and_time_of_the_refusal(caplog):
    assert all(keep() for _ in range(3))
    waiting = {path.stem: path.read_bytes() for path in spool.folder().iterdir()}
    assert (spool.replay(), spool.replay()) == (3, 0)
    assert {str(one.event_id): bytes(one.leaf) for one in AuditEvent.objects.all()} == waiting
    assert list(spool.folder().iterdir()) == []
    assert not caplog.records


def test_a_replay_that_died_between_insert_and_removal_adds_nothing_twice():
    keep()
    [path] = spool.folder().iterdir()
    services.insert(path.read_bytes())
    assert spool.replay() == 0
    assert AuditEvent.objects.count() == 1
    assert not path.exists()


def test_two_workers_that_replay_at_once_add_each_entry_once(monkeypatch):
    """The other one inserts after this one has looked."""
    keep()
    insert = services.insert

    def late(content):
        thread = threading.Thread(target=other, args=(content,))
        thread.start()
        thread.join()
        return insert(content)

    def other(content):
        insert(content)
        connection.close()

    if connection.vendor == "sqlite":
        pytest.skip("SQLite lets one writer in at a time")
    monkeypatch.setattr(services, "insert", late)
    assert spool.replay() == 0
    assert AuditEvent.objects.count() == 1
    assert list(spool.folder().iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\0" * len(whole),
        lambda whole: whole + b"\n",
        lambda whole: b"[]",
        lambda whole: whole.replace(b'"obj":[]', b'"obj":[1]'),
        lambda whole: whole.replace(b'"actor":', b'"aktor":'),
        lambda whole: whole.replace(b"request.refused", b"request.painted"),
        lambda whole: whole.replace(b'"url"', b'"usr"'),
        lambda whole: whole.replace(b'"data":{"done":"no","url":"u"}', b'"data":[]'),
        lambda whole: whole.replace(b'"ts":"2', b'"ts":"2-'),
    ],
)
def test_a_torn_or_foreign_file_is_said_left_and_holds_nothing_up(spoil, caplog):
    whole = leaf()
    bad = put(spoil(whole), json.loads(whole)["id"])
    assert bad.read_bytes() != whole
    for _ in range(4):
        keep()
    assert spool.replay() == 4
    assert bad.exists()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert bad.name in caplog.text
    assert not AuditEvent.objects.filter(event_id=bad.stem).exists()


def test_a_file_under_another_entrys_name_is_not_taken_for_it(caplog):
    whole, other = leaf(), str(uuid.uuid4())
    services.insert(whole)
    path = put(whole, other)
    assert spool.replay() == 0
    assert "its name is not its id" in caplog.text
    assert path.exists()


def test_what_cannot_be_read_is_said_and_holds_nothing_up(caplog):
    keep()
    (spool.folder() / f"00000000-{uuid.uuid4()}.json").mkdir()  # sorts first, and is no file
    assert spool.replay() == 1
    assert "cannot be used: Is a directory" in caplog.text


def test_a_spool_that_cannot_be_written_is_said_and_the_refusal_stays_one(caplog, home):
    (home / "audit-spool").write_text("a file where the folder should be")
    assert keep() is False
    assert "the audit spool cannot be written" in caplog.text
    assert spool.replay() == 0


def test_a_full_disk_leaves_no_half_entry(caplog, monkeypatch):
    monkeypatch.setattr(
        os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    assert keep() is False
    assert "No space left" in caplog.text
    assert list(spool.folder().iterdir()) == []


def test_an_entry_has_its_name_only_when_it_is_on_the_disk(monkeypatch):
    fsync, seen = os.fsync, []

    def look(descriptor):
        seen.append(sorted(path.name[0] == "." for path in spool.folder().iterdir()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    assert keep()
    assert seen == [[True], [False]]


def test_a_stranger_who_knocks_does_not_fill_the_disk(caplog, monkeypatch):
    monkeypatch.setattr(spool, "MOST", 2)
    assert [keep() for _ in range(3)] == [True, True, False]
    assert "the audit spool is full" in caplog.text


def test_what_was_never_finished_is_taken_when_whole_and_removed_when_torn(caplog):
    whole, torn, fresh = leaf(), leaf(), leaf()
    put(whole, unfinished=True)
    put(torn[:-9], json.loads(torn)["id"], unfinished=True)
    being_written = put(fresh, unfinished=True, age_s=0)
    assert spool.replay() == 1
    assert bytes(AuditEvent.objects.get().leaf) == whole
    assert list(spool.folder().iterdir()) == [being_written]
    assert "was never finished" in caplog.text


def test_a_database_that_goes_away_again_loses_nothing(monkeypatch):
    for _ in range(3):
        keep()
    insert, done = services.insert, []

    def fails_later(content):
        if done:
            raise OperationalError("gone")
        done.append(content)
        return insert(content)

    monkeypatch.setattr(services, "insert", fails_later)
    with pytest.raises(OperationalError):
        spool.replay()
    monkeypatch.undo()
    assert AuditEvent.objects.count() == 1
    assert spool.replay() == 2
    assert AuditEvent.objects.count() == 3


WRITER = """
import os, sys, django
os.environ["DJANGO_SETTINGS_MODULE"] = "infra.settings.test"
django.setup()
from django.conf import settings
from pathlib import Path
settings.CONSILIUM_HOME = Path(sys.argv[1])
from platform_web.audit import spool
while True:
    assert spool.keep(act="request.refused", out="error", data={"url": "u", "done": "no"})
    # a name that begins with a dot is what an earlier kill had torn
    kept = [name for name in os.listdir(spool.folder()) if not name.startswith(".")]
    print(len(kept), flush=True)
"""


def test_a_killed_process_leaves_only_whole_entries_and_what_it_called_kept(home, caplog, monkeypatch):
    """SIGKILL while it writes, three times: every entry that it said was kept is in the log afterwards."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(spool, "UNFINISHED_S", 0.0)
    said = 0
    for _ in range(3):
        before = len(list(spool.folder().glob("[0-9a-f]*.json")))
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= before + 15:
                os.kill(process.pid, signal.SIGKILL)
                break
        said = int([line, *process.stdout][-1])
        process.wait(10)
        process.stdout.close()
    added = spool.replay()
    assert added >= said >= 45
    assert AuditEvent.objects.count() == added
    assert "is no entry" not in caplog.text
    assert list(spool.folder().iterdir()) == []
