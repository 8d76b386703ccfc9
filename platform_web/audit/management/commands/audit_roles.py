"""Prints the SQL that gives every process only the rights on the log that it needs (PostgreSQL)."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from platform_web.audit.triggers import INSERT_ONLY, TABLES

SQL = Path(__file__).parents[2] / "roles.sql"


def roles_sql() -> str:
    """For the administrator of the database; may be run again."""
    text = SQL.read_text(encoding="utf-8")
    return text.replace("{tables}", ", ".join(TABLES)).replace("{public_tables}", ", ".join(INSERT_ONLY))


class Command(BaseCommand):
    help = "Print the roles and grants of the audit log for psql."
    requires_system_checks = []

    def handle(self, **options: Any) -> None:  # noqa: ARG002 Django gives options
        self.stdout.write(roles_sql())
