"""A body goes only when two people agreed, and not before its floor."""

from django.db import migrations

from platform_web.audit import triggers


def guard(apps, schema_editor):
    triggers.guard_bodies(schema_editor)


def unguard(apps, schema_editor):
    triggers.unguard_bodies(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("audit", "0005_redaction")]
    operations = [migrations.RunPython(guard, unguard)]
