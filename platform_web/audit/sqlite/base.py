"""Django's SQLite backend; a request waits for the lock of ``BEGIN IMMEDIATE`` no longer than it may."""

from typing import Any

from django.db.backends.sqlite3 import base

from platform_web.audit import deadlines

LONGEST_S = 20.0  # for workers and commands


class DatabaseWrapper(base.DatabaseWrapper):
    """Sets SQLite's busy timeout before each statement, when it has to change."""

    _busy_ms = -1

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self._busy_ms = -1
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: str | None = None) -> Any:
        limit = deadlines.wait_s()
        # steps of 50 ms: the budget of a request shrinks with every statement
        busy_ms = round((LONGEST_S if limit is None else limit) * 20) * 50
        if busy_ms != self._busy_ms:
            self.connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
            self._busy_ms = busy_ms
        return super().create_cursor(name)

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]  # the stubs leave it out
        deadlines.note_commit()
