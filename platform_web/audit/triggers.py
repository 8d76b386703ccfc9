"""The triggers that make the log's tables insert-only, on SQLite and PostgreSQL.

Whoever owns the database can drop them; signed and witnessed checkpoints make that visible.
"""

from collections.abc import Iterable

from django.db.backends.base.schema import BaseDatabaseSchemaEditor

SENTENCE = "The audit log is append-only: entries are never changed or removed."
INSERT_ONLY = (
    "audit_event",
    "audit_shard",
    "audit_seq",
    "audit_tile",
    "audit_head",
    "audit_cosignature",
    "audit_witness",
    "audit_evidence",
)
DELETE_ONLY = ("audit_body",)  # what a person may have erased; never changed
TABLES = (*INSERT_ONLY, *DELETE_ONLY)
NAMES = {"sqlite": ("no_update", "no_delete"), "postgresql": ("no_change", "no_truncate")}
_ABORT = f"SELECT RAISE(ABORT, '{SENTENCE}')"
_FUNCTION = (
    "CREATE OR REPLACE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{SENTENCE}'; END $$"
)


def create(schema_editor: BaseDatabaseSchemaEditor, tables: Iterable[str] = TABLES) -> None:
    """Make ``tables`` insert-only from here on."""
    sqlite = schema_editor.connection.vendor == "sqlite"
    if not sqlite:
        schema_editor.execute(_FUNCTION)
    for table in tables:
        for statement in _on_sqlite(table) if sqlite else _on_postgresql(table):
            schema_editor.execute(statement)


def drop(schema_editor: BaseDatabaseSchemaEditor, tables: Iterable[str] = TABLES) -> None:
    """Take the triggers away: for a reversed migration and for tests that empty the tables."""
    vendor = schema_editor.connection.vendor
    for table in tables:
        on = "" if vendor == "sqlite" else f" ON {table}"
        for name in NAMES[vendor]:
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_{name}{on}")


def names_of(table: str, vendor: str) -> set[str]:
    """The triggers of an insert-only table."""
    return {f"{table}_{name}" for name in NAMES[vendor]}


def _on_sqlite(table: str) -> list[str]:
    changes = ("UPDATE",) if table in DELETE_ONLY else ("UPDATE", "DELETE")
    return [
        f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} BEGIN {_ABORT}; END"
        for change in changes
    ]


def _on_postgresql(table: str) -> list[str]:
    changes = "UPDATE" if table in DELETE_ONLY else "UPDATE OR DELETE"
    refuse = "EXECUTE FUNCTION audit_event_refuse()"
    return [
        f"CREATE TRIGGER {table}_no_change BEFORE {changes} ON {table} FOR EACH ROW {refuse}",
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}",
    ]
