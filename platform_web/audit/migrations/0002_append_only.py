"""Append-only triggers, and on PostgreSQL the transaction id by which late commits are found."""

from django.db import migrations

from platform_web.audit import triggers


def protect(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            "ALTER TABLE audit_event ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()"
        )
        schema_editor.execute("CREATE INDEX audit_event_xid_pk ON audit_event (xid, pk)")
    triggers.create(schema_editor, ["audit_event"])


def unprotect(apps, schema_editor):
    triggers.drop(schema_editor, ["audit_event"])
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE audit_event DROP COLUMN xid")


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
