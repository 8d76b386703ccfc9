"""What only PostgreSQL has: commits in another order than numbers, and a cursor that must not miss one."""

import json
import threading
import time

import psycopg
import pytest
from django.db import connection, connections, transaction

from platform_web.audit import selectors, services, storage
from platform_web.audit.errors import AuditError
from platform_web.audit.models import AuditEvent, AuditSeq
from tests.platform_web.audit.test_sequencer import YEAR, behind_the_triggers

pytestmark = [
    pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL only"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def another():
    """A second connection to the same database, with a transaction of its own."""
    parameters = {k: v for k, v in connection.get_connection_params().items() if k != "cursor_factory"}
    parameters.pop("context", None), parameters.pop("prepare_threshold", None)
    link = psycopg.connect(**parameters)
    yield link
    link.close()


def copy_of(event):
    """An INSERT of the same entry under a new number and id."""
    return (
        "INSERT INTO audit_event (id, leaf, leaf_hash, ts, org, site, act, actor, obj, job) "
        "SELECT gen_random_uuid(), leaf, leaf_hash, ts, org, site, act, actor, obj, job FROM audit_event "
        f"WHERE pk = {event.number} RETURNING pk"
    )


def test_a_late_commit_with_an_early_number_is_not_missed(entries, sequencer, another):
    first = entries(1)[0]
    early = another.execute(copy_of(first)).fetchone()[0]  # its transaction stays open
    entries(3)
    assert [entry.number for entry in storage.waiting(10)] == [first.number]
    assert selectors.oldest_waiting() is not None
    another.commit()
    numbers = [entry.number for entry in storage.waiting(10)]
    assert early in numbers
    assert len(numbers) == 5


def test_many_writers_with_late_commits_and_rollbacks_leave_no_gap(sequencer):
    stop = threading.Event()

    def write(seed):
        try:
            for number in range(30):
                with transaction.atomic():
                    services.record(act="site.resumed", site=f"site-{seed}")
                    time.sleep(0.002 * ((seed + number) % 4))
                    transaction.set_rollback(number % 5 == 0)
        finally:
            connections.close_all()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        sequencer.step()
        sequencer.checkpoint()
    stop.set()
    while sequencer.step():
        pass
    assert AuditEvent.objects.count() == AuditSeq.objects.count() == 6 * 24
    assert selectors.sequenced_size(YEAR) == 6 * 24


def test_the_cursor_runs_along_its_index(entries):
    """`ORDER BY xid` over a column named xid::text sorts texts and reads the whole table: a fifth as fast."""
    entries(1)
    with transaction.atomic(), connection.cursor() as cursor:
        for way in ("seqscan", "bitmapscan", "sort"):  # a small table would be read whole
            cursor.execute(f"SET LOCAL enable_{way} = off")
        cursor.execute("EXPLAIN (FORMAT JSON) " + storage.WAITING, ["0", 0, 2000])
        row = cursor.fetchone()[0]
    limit = (json.loads(row) if isinstance(row, str) else row)[0]["Plan"]
    scan = limit["Plans"][0]
    assert (limit["Node Type"], scan["Node Type"]) == ("Limit", "Index Scan")
    assert scan["Index Name"] == "audit_event_xid_pk"
    assert "xid <" in scan["Index Cond"]
    assert "ROW(xid, pk) >" in scan["Index Cond"]


def test_after_a_dump_was_restored_nothing_is_skipped_in_silence(grown, entries):
    grown(1)
    behind_the_triggers("UPDATE audit_event SET xid = '4294967296000'::xid8")
    entries(1)
    with pytest.raises(AuditError, match="pg_resetwal"):
        storage.waiting(10)


def test_there_is_one_leader_over_all_connections(another):
    with storage.leadership() as held:
        assert held
        assert another.execute("SELECT pg_try_advisory_lock(%s)", [storage.LEADER]).fetchone() == (False,)
    assert another.execute("SELECT pg_try_advisory_lock(%s)", [storage.LEADER]).fetchone() == (True,)
    another.commit()
    with storage.leadership() as held:
        assert not held
