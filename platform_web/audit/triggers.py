"""The triggers that make ``audit_event`` append-only, on SQLite and PostgreSQL.

Whoever owns the database can drop them; signed checkpoints (a later table) make that visible.
"""

from django.db.backends.base.schema import BaseDatabaseSchemaEditor

SENTENCE = "The audit log is append-only: entries are never changed or removed."
_ABORT = f"SELECT RAISE(ABORT, '{SENTENCE}')"

CREATE = {
    "sqlite": [
        f"CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event BEGIN {_ABORT}; END",
        f"CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event BEGIN {_ABORT}; END",
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{SENTENCE}'; END $$",
        "CREATE TRIGGER audit_event_no_change BEFORE UPDATE OR DELETE ON audit_event "
        "FOR EACH ROW EXECUTE FUNCTION audit_event_refuse()",
        "CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_event_refuse()",
    ],
}
DROP = {
    "sqlite": [
        "DROP TRIGGER IF EXISTS audit_event_no_update",
        "DROP TRIGGER IF EXISTS audit_event_no_delete",
    ],
    "postgresql": [
        "DROP TRIGGER IF EXISTS audit_event_no_change ON audit_event",
        "DROP TRIGGER IF EXISTS audit_event_no_truncate ON audit_event",
    ],
}


def create(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Make the log append-only from here on."""
    for statement in CREATE[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Take the triggers away: for a reversed migration and for tests that empty the tables."""
    for statement in DROP[schema_editor.connection.vendor]:
        schema_editor.execute(statement)
