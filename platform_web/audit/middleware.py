"""Both doors: a request waits for the database no longer than allowed, and an outage is a 503 that says so."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from platform_web.audit import deadlines, outages


class FailClosed:
    """The first of the middleware, so that sessions and sign-in are bounded too."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with deadlines.one_request():
            return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return outages.refusal_page(request, error) if outages.is_outage(error) else None
