"""How long a request waits for the database: a protected act is done or refused within one second.

A hanging sink must not hold a person's request (HashiCorp Vault's issue 5361 is the counter-example). The
server's own timeouts do not help when the server is what hangs, so the database backends of this app ask here
how long to wait, at this end. Outside a request (workers, commands) nobody waits: there is no limit.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_S = 0.7  # of the second; the rest is for our own work and the page that says so
LEAST_S = 0.25  # a wait that begins late, behind slow work of our own, still gets this much


@dataclass
class _Request:
    """One object, whatever thread the request is in.

    ``gave_up``: a wait of it ended without an answer. ``committed``: since its act began, something was.
    """

    until: float
    gave_up: bool = False
    committed: bool = False


_request: ContextVar[_Request | None] = ContextVar("request", default=None)
_least_s: ContextVar[float] = ContextVar("least_s", default=LEAST_S)


@contextmanager
def one_request() -> Iterator[None]:
    """Bound every wait for the database in this block."""
    token = _request.set(_Request(time.monotonic() + REQUEST_S))
    try:
        yield
    finally:
        _request.reset(token)


def give_up() -> None:
    """The database did not answer in time: this request waits for nothing more.

    Django rolls back and, to set autocommit, connects again; that took 0.3 s more beyond the second.
    """
    if (request := _request.get()) is not None:
        request.gave_up = True


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let each wait in this block take ``seconds``: for a long reading whose entry is already written."""
    token = _least_s.set(seconds)
    try:
        yield
    finally:
        _least_s.reset(token)


def begin_act() -> None:
    """What was committed before (the door's own bookkeeping) is no part of the act."""
    if (request := _request.get()) is not None:
        request.committed = False


def note_commit() -> None:
    """A transaction of this request is in the database."""
    if (request := _request.get()) is not None:
        request.committed = True


def has_committed() -> bool:
    """Whether a transaction was committed since this request's act began."""
    request = _request.get()
    return request is not None and request.committed


def wait_s() -> float | None:
    """How long a wait that begins now may take; None where there is no limit."""
    request = _request.get()
    if request is None:
        return None
    return 0.0 if request.gave_up else max(_least_s.get(), request.until - time.monotonic())
