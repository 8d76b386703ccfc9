"""The tree's tables become insert-only; bodies can be deleted, never changed."""

from django.db import migrations

from platform_web.audit import triggers

TABLES = [name for name in triggers.TABLES if name != "audit_event"]  # that one since 0002


def protect(apps, schema_editor):
    triggers.create(schema_editor, TABLES)


def unprotect(apps, schema_editor):
    triggers.drop(schema_editor, TABLES)


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_tree")]
    operations = [migrations.RunPython(protect, unprotect)]
