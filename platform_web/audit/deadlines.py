"""How long a request waits for the database: a protected act is done or refused within one second.

A hanging sink must not hold a person's request (HashiCorp Vault's issue 5361 is the counter-example). The
server's own timeouts do not help when the server is what hangs, so the database backends of this app ask here
how long to wait, at this end. Outside a request (workers, commands) nobody waits: there is no limit.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

REQUEST_S = 0.7  # of the second; the rest is for our own work and the page that says so
LEAST_S = 0.25  # a wait that begins late, behind slow work of our own, still gets this much
_wait_until: ContextVar[float | None] = ContextVar("wait_until", default=None)
_least_s: ContextVar[float] = ContextVar("least_s", default=LEAST_S)


@contextmanager
def one_request() -> Iterator[None]:
    """Bound every wait for the database in this block."""
    token = _wait_until.set(time.monotonic() + REQUEST_S)
    try:
        yield
    finally:
        _wait_until.reset(token)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let each wait in this block take ``seconds``: for a long reading whose entry is already written."""
    token = _least_s.set(seconds)
    try:
        yield
    finally:
        _least_s.reset(token)


def wait_s() -> float | None:
    """How long a wait that begins now may take; None where there is no limit."""
    until = _wait_until.get()
    return None if until is None else max(_least_s.get(), until - time.monotonic())
