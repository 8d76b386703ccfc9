"""When the log cannot be written nothing is done, and the person is told so in one page within a second."""

import logging
import sys
from collections.abc import Iterator

from django.contrib.sessions.exceptions import SessionInterrupted
from django.db import InterfaceError, OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.views import defaults

from platform_web.audit import deadlines, spool
from platform_web.audit.errors import CommitUnknownError

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
log = logging.getLogger(__name__)


def is_outage(error: BaseException | None) -> bool:
    """Whether the database did not answer, refused for want of room, or could not be waited for."""
    return isinstance(error, OperationalError | InterfaceError)


def note_refusal(request: HttpRequest, error: BaseException) -> None:
    """Say it in the process's log and, for an act, keep an entry in the spool until the database is back."""
    name = url_name(request)
    log.warning(
        "refused %s %s: the database does not answer (%s)", request.method, name, type(error).__name__
    )
    if request.method not in SAFE:
        done = "unknown" if isinstance(error, CommitUnknownError) else "no"
        spool.keep(act="request.refused", out="error", data={"url": name, "done": done})


def url_name(request: HttpRequest) -> str:
    """The name of the URL; never its path: that of a kit is a secret."""
    match = request.resolver_match
    return (match.view_name if match else None) or "unknown"


def sentences(error: BaseException) -> tuple[str, str]:
    """What happened, and what to do next."""
    if isinstance(error, CommitUnknownError):
        return (
            _("The connection broke at the last moment. It is not known whether this was done."),
            _("Look whether it was done before you repeat it; if it was, the audit log has its entry."),
        )
    return (
        _("The portal cannot write its audit log now, so it refused. Nothing was done."),
        _("Try again in a minute. If it happens again, tell the administrator the time on your clock."),
    )


def refusal_page(request: HttpRequest, error: BaseException) -> HttpResponse:
    """503 as a page, or as problem+json for scripts and agents. Touches neither session nor database.

    Only what was surely not done carries ``Retry-After``: not an act that committed and then, for its answer,
    needed a database that had gone meanwhile.
    """
    if request.method not in SAFE and deadlines.has_committed():
        error = CommitUnknownError()
    note_refusal(request, error)
    is_unknown = isinstance(error, CommitUnknownError)
    return _page(request, *sentences(error), status=503, headers={} if is_unknown else {"Retry-After": "60"})


def _page(
    request: HttpRequest, happened: str, advice: str, *, status: int, headers: dict[str, str]
) -> HttpResponse:
    headers = {"Cache-Control": "no-store", **headers}
    if "text/html" in request.headers.get("Accept", ""):
        page = render_to_string("503.html", {"happened": happened, "advice": advice})
        return HttpResponse(page, status=status, headers=headers)
    problem: dict[str, object] = {
        "type": "about:blank",
        "title": _("Not available"),
        "status": status,
        "code": "busy" if status == 503 else "signed_out",
    }
    problem["detail"] = f"{happened} {advice}"
    return JsonResponse(problem, status=status, headers=headers, content_type="application/problem+json")


@transaction.atomic
def require_sink() -> None:
    """Make sure that an entry could be written now, before costly work is done for an act that needs one.

    With the hashing of a password before the wait for a held table the refusal came after two seconds.
    SQLite's transaction begins with the write lock, PostgreSQL is asked for the lock of an INSERT.
    Raises OperationalError.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE audit_event IN ROW EXCLUSIVE MODE")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500, also called for what its middleware raises (the session's row, for one)."""
    error = sys.exc_info()[1]
    if error is not None and is_outage(error):
        return refusal_page(request, error)
    return defaults.server_error(request)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400, which a session that could not be stored after the view's work looks like too.

    Its middleware makes SessionInterrupted of whatever befell the row: an outage, or a sign-out meanwhile.
    """
    if not isinstance(exception, SessionInterrupted):
        return defaults.bad_request(request, exception)
    if any(is_outage(cause) for cause in _causes(exception)):
        return refusal_page(request, OperationalError() if request.method in SAFE else CommitUnknownError())
    happened = _("You were signed out while the portal was at work. It may be that this was done.")
    advice = _("Sign in, and look whether it was done before you repeat it.")
    return _page(request, happened, advice, status=409, headers={})


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
