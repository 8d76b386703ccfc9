import json

import pytest
from django.db import DatabaseError, connection, transaction

from compliance import merkle
from platform_web.audit import services
from platform_web.audit.errors import AuditError
from platform_web.audit.models import AuditEvent


def record(**changes):
    values = {
        "act": "site.invited",
        "site": "site-a",
        "obj": [("site", "site-a", "")],
        "data": {"title": "市医院"},
    }
    with transaction.atomic():
        return services.record(**values | changes)


@pytest.mark.django_db
def test_the_leaf_is_the_canonical_envelope_and_its_hash_is_that_of_rfc_6962():
    event = record()
    envelope = json.loads(bytes(event.leaf))
    assert envelope["act"] == "site.invited"
    assert envelope["id"] == str(event.event_id)
    assert bytes(event.leaf_hash) == merkle.leaf_hash(bytes(event.leaf))
    assert event.obj == "site:site-a"


@pytest.mark.django_db
def test_decomposed_text_is_written_in_normal_form():
    leaf = bytes(record(data={"title": "Universite\u0301"}).leaf).decode()
    assert "Universit\u00e9" in leaf


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        {"act": "site.painted"},
        {"data": {"patient": "x"}},
        {"data": {"title": 0.5}},
        {"data": {"title": "x" * 9000}},
    ],
)
def test_an_entry_without_canonical_form_is_refused(change):
    with pytest.raises(AuditError):
        record(**change)
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_there_is_no_entry_outside_a_transaction():
    with pytest.raises(AuditError, match="transaction"):
        services.record(act="kit.fetched")


@pytest.mark.django_db(transaction=True)
def test_the_entry_goes_with_an_effect_that_is_rolled_back():
    with transaction.atomic():
        record()
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_event SET act = 'kit.issued'", "DELETE FROM audit_event", "TRUNCATE audit_event"],
)
def test_the_database_refuses_to_change_or_remove_entries(statement):
    if statement.startswith("TRUNCATE") and connection.vendor == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    record()
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert AuditEvent.objects.get().act == "site.invited"


@pytest.mark.django_db
def test_on_postgresql_every_entry_has_its_transaction_id():
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL only")
    record()
    with connection.cursor() as cursor:
        cursor.execute("SELECT xid = pg_current_xact_id() FROM audit_event")
        assert cursor.fetchall() == [(True,)]
