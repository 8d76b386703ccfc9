"""Errors as problem+json (RFC 9457) with a stable ``code`` and a sentence; never a traceback."""

import sys

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from platform_web.audit import outages

TITLES = {
    400: gettext_lazy("Bad request"),
    401: gettext_lazy("Not allowed"),
    403: gettext_lazy("Forbidden"),
    404: gettext_lazy("Not found"),
    405: gettext_lazy("Wrong method"),
    409: gettext_lazy("Conflict"),
    413: gettext_lazy("Too large"),
    415: gettext_lazy("Wrong media type"),
    422: gettext_lazy("Not usable"),
    500: gettext_lazy("Error"),
    503: gettext_lazy("Not available"),
}


def problem(status: int, code: str, detail: str) -> JsonResponse:
    """A problem document; ``detail`` says what to do next."""
    body = {
        "type": "about:blank",
        "title": str(TITLES[status]),
        "status": status,
        "code": code,
        "detail": detail,
    }
    return JsonResponse(body, status=status, content_type="application/problem+json")


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:  # noqa: ARG001 Django gives them
    """Django's handler400."""
    return problem(400, "bad_request", _("The request is malformed. Nothing was changed."))


def forbidden(request: HttpRequest, exception: Exception) -> JsonResponse:  # noqa: ARG001 Django gives them
    """Django's handler403."""
    return problem(403, "forbidden", _("This address is not for you."))


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:  # noqa: ARG001 Django gives them
    """Django's handler404."""
    return problem(404, "not_found", _("There is nothing at this address. Agents use /agent/v1/."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500."""
    error = sys.exc_info()[1]
    if isinstance(error, Exception) and outages.is_outage(error):
        return outages.refusal_page(request, error)
    return problem(500, "error", _("The portal made a mistake; its log says more. Try again later."))
