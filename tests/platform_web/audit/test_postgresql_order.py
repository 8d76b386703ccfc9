"""What only PostgreSQL has: commits in another order than numbers, and a cursor that must not miss one."""

import json
import threading
import time

import psycopg
import pytest
from django.db import ProgrammingError, connection, connections, transaction

from platform_web.audit import selectors, services, storage, triggers
from platform_web.audit.errors import AuditError
from platform_web.audit.management.commands.audit_roles import roles_sql
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


STATEMENTS = ("UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0}")


@pytest.mark.parametrize("role", ["consilium_app", "consilium_sequencer", "consilium_auditor"])
def test_no_role_changes_removes_or_empties_the_log(grown, role):
    """Also without the triggers: the grants alone."""
    grown(2)
    with connection.schema_editor() as editor:
        triggers.drop(editor)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(roles_sql())
            cursor.execute(f"SET LOCAL ROLE {role}")
            refused = [
                (table, statement)
                for table in triggers.INSERT_ONLY
                for statement in STATEMENTS
                if is_refused(cursor, statement.format(table, columns_of(table)))
            ]
            cursor.execute("SELECT count(*) FROM audit_event")
            assert cursor.fetchone() == (2,)
            assert len(refused) == len(STATEMENTS) * len(triggers.INSERT_ONLY)
            assert is_refused(cursor, "SELECT * FROM audit_body") == (role == "consilium_auditor")
            assert is_refused(cursor, "UPDATE audit_body SET key_id = ''")
            writes = is_refused(cursor, copy_of(AuditEvent.objects.first()))
            assert writes == (role == "consilium_auditor")
            transaction.set_rollback(True)
    finally:
        with connection.schema_editor() as editor:
            triggers.create(editor)


def columns_of(table):
    return (
        "shard"
        if table in ("audit_seq", "audit_tile", "audit_head", "audit_cosignature")
        else "site"
        if (table in ("audit_witness", "audit_evidence", "audit_event"))
        else "origin"
    )


def is_refused(cursor, statement):
    try:
        with transaction.atomic():
            cursor.execute(statement)
    except ProgrammingError as error:
        return "permission denied" in str(error)
    return False
