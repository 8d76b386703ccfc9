"""Django's PostgreSQL backend; inside a request no answer of the server is waited for longer than allowed.

A stopped server (SIGSTOP, a dead host) answers nothing, and its own ``statement_timeout`` never fires. So
the bound is kept at this end, and a connection that broke it is closed at once.
"""

import time
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from typing import Any, Self

import psycopg
from django.db import OperationalError
from django.db.backends.postgresql import base
from psycopg.errors import ConnectionTimeout

from platform_web.audit import deadlines
from platform_web.audit.errors import CommitUnknownError

STREAMED = 256  # rows that the server sends at once
_connect_until: ContextVar[float | None] = ContextVar("connect_until", default=None)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose waits end in OperationalError when a request may wait no longer."""

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        limit = deadlines.wait_s()
        token = _connect_until.set(None if limit is None else time.monotonic() + limit)
        try:
            return super().connect(conninfo, **parameters)
        finally:
            _connect_until.reset(token)

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Generator[Any, Any, Self]:
        """Psycopg goes on every 0.1 s; its ``connect_timeout`` is at least 2 s, which is too long."""
        until = _connect_until.get()
        steps: Any = super()._connect_gen(conninfo)
        ready = None
        while True:
            if until is not None and time.monotonic() >= until:
                deadlines.give_up()
                raise ConnectionTimeout("the database does not answer in time")
            try:
                ready = yield steps.send(ready)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        limit = deadlines.wait_s() if timeout is None else timeout
        if limit is None:
            return super().wait(gen, interval)
        began = time.monotonic()
        try:
            return super().wait(gen, min(interval, limit), limit)
        except psycopg.OperationalError:
            if time.monotonic() - began >= limit:  # what comes later on this connection belongs to nobody
                self.pgconn.finish()
                deadlines.give_up()
            raise


class PreparedCursor(psycopg.Cursor[Any]):
    """Statements that the server reads once for each connection; values and rows travel as they are kept.

    Django's own cursor writes the values into the text. A pooler between us that hands out its connections
    by the transaction would have to know prepared statements (PgBouncer does since 1.21).
    """

    def execute(self, query: Any, params: Any = None, **_options: Any) -> Self:
        return super().execute(query, params, prepare=True, binary=True)

    def stream(self, query: Any, params: Any = None, **_options: Any) -> Iterator[Any]:
        """Rows while the server still reads; it has the connection to itself until its end.

        A libpq older than 17 gives them one by one, which takes longer.
        """
        size = STREAMED if psycopg.capabilities.has_stream_chunked() else 1
        return super().stream(query, params, binary=True, size=size)


class _Database:
    """The psycopg module as Django uses it, with our connection class."""

    connect = BoundedConnection.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, with BoundedConnection; a COMMIT whose answer never came is an error of its own."""

    Database = _Database()  # type: ignore[assignment]  # Django wants a module

    def prepared_cursor(self) -> Any:
        """As ``cursor()``, for the few statements that are asked thousands of times."""
        self.close_if_health_check_failed()
        self.ensure_connection()
        with self.wrap_database_errors:
            return self._prepare_cursor(PreparedCursor(self.connection))  # type: ignore[attr-defined]

    def _commit(self) -> None:
        try:
            super()._commit()  # type: ignore[misc]  # the stubs leave it out
        except OperationalError as error:
            if self.connection is None or self.connection.closed:
                raise CommitUnknownError from error
            raise
        deadlines.note_commit()
