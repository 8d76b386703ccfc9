"""Both doors: a request waits for the database no longer than allowed; an outage is a 503 that says so."""

from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from platform_web.audit import deadlines, outages, services


class FailClosed:
    """The first of the middleware, so that sessions and sign-in are bounded too."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with deadlines.one_request():
            return self.get_response(request)

    def process_view(self, request: HttpRequest, *_view: object) -> HttpResponse | None:
        """What wants to do something is refused here already when no entry could be written."""
        if request.method in outages.SAFE:
            return None
        try:
            outages.require_sink()
        except (OperationalError, InterfaceError) as error:
            return outages.refusal_page(request, error)
        deadlines.begin_act()
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """An outage is a 503. What a signed-in person may not do is an entry before it is a 403."""
        if isinstance(error, PermissionDenied):
            try:
                _record_denial(request)
            except (OperationalError, InterfaceError) as outage:
                return outages.refusal_page(request, outage)
        if not outages.is_outage(error):
            return None
        _session_as_it_came(request)
        return outages.refusal_page(request, error)


def _session_as_it_came(request: HttpRequest) -> None:
    """A sign-out that failed at its commit has emptied it; the browser must not lose its cookie for that."""
    request.session = type(request.session)(request.COOKIES.get(settings.SESSION_COOKIE_NAME))


@transaction.atomic
def _record_denial(request: HttpRequest) -> None:
    if request.user.is_authenticated:
        name = outages.url_name(request)
        services.record(act="request.denied", actor=request.user, out="deny", data={"url": name})
