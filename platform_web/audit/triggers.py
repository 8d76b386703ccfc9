"""The triggers that make the log's tables insert-only, on SQLite and PostgreSQL.

Whoever owns the database can drop them; signed and witnessed checkpoints make that visible.
"""

from collections.abc import Iterable

from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from compliance.events import CLASSES, FLOORS

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
DELETE_ONLY = ("audit_body",)  # what two people may have erased; never changed
TABLES = (*INSERT_ONLY, *DELETE_ONLY)
NAMES = {"sqlite": ("no_update", "no_delete"), "postgresql": ("no_change", "no_truncate")}
GUARD = "audit_body_kept"
GUARD_SENTENCE = "A body stays until two people have agreed to its erasure and its time of keeping is over."
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


def guard_bodies(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Let a body go only when two people agreed, and not before its floor unless it was misplaced.

    The floors of ``compliance.events`` stand in the trigger: who changes them calls this in a migration.
    """
    unguard_bodies(schema_editor)
    sqlite = schema_editor.connection.vendor == "sqlite"
    for statement in _guard_on_sqlite() if sqlite else _guard_on_postgresql():
        schema_editor.execute(statement)


def unguard_bodies(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Take the guard of the bodies away."""
    on = "" if schema_editor.connection.vendor == "sqlite" else " ON audit_body"
    schema_editor.execute(f"DROP TRIGGER IF EXISTS {GUARD}{on}")


def drop(schema_editor: BaseDatabaseSchemaEditor, tables: Iterable[str] = TABLES) -> None:
    """Take the triggers away: for a reversed migration and for tests that empty the tables."""
    vendor = schema_editor.connection.vendor
    for table in tables:
        on = "" if vendor == "sqlite" else f" ON {table}"
        for name in NAMES[vendor]:
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_{name}{on}")


def names_of(table: str, vendor: str) -> set[str]:
    """The triggers that guard a table."""
    names = {f"{table}_{name}" for name in NAMES[vendor]}
    if table not in DELETE_ONLY:
        return names
    return {name for name in names if not name.endswith("_delete")} | {GUARD}


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


def _guard_on_sqlite() -> list[str]:
    old_enough = f"julianday(e.ts) <= julianday('now') - {_days()}"
    return [
        f"CREATE TRIGGER {GUARD} BEFORE DELETE ON audit_body WHEN NOT EXISTS ({_agreed(old_enough)}) "
        f"BEGIN SELECT RAISE(ABORT, '{GUARD_SENTENCE}'); END"
    ]


def _guard_on_postgresql() -> list[str]:
    agreed = _agreed(f"e.ts <= now() - make_interval(days => {_days()})")
    return [
        f"CREATE OR REPLACE FUNCTION {GUARD}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NOT EXISTS ({agreed}) THEN RAISE EXCEPTION '{GUARD_SENTENCE}'; END IF; RETURN OLD; END $$",
        f"CREATE TRIGGER {GUARD} BEFORE DELETE ON audit_body FOR EACH ROW EXECUTE FUNCTION {GUARD}()",
    ]


def _agreed(old_enough: str) -> str:
    return (
        "SELECT 1 FROM audit_auditredaction r JOIN audit_event e ON e.id = r.event_id WHERE e.id = OLD.id "  # noqa: S608 - our own words
        "AND r.confirmed_at IS NOT NULL AND r.closed_by_id <> r.requested_by_id "
        f"AND (r.basis = 'misplaced' OR {old_enough})"
    )


def _days() -> str:
    """The floor of an entry's act in days, as SQL."""
    cases = " ".join(
        f"WHEN substr(e.act, 1, {len(word) + 1}) = '{word}.' THEN {FLOORS[kind].days}"
        for word, kind in sorted(CLASSES.items())
    )
    return f"CASE {cases} ELSE {FLOORS['processing'].days} END"
