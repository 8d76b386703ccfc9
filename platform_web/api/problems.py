"""Errors as problem+json (RFC 9457) with a stable ``code`` and a sentence; never a traceback."""

import sys

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _

from platform_web.audit import outages

TITLES = {
    400: "Bad request",
    401: "Not allowed",
    403: "Forbidden",
    404: "Not found",
    405: "Wrong method",
    409: "Conflict",
    413: "Too large",
    415: "Wrong media type",
    422: "Not usable",
    500: "Error",
    503: "Not available",
}


def problem(status: int, code: str, detail: str) -> JsonResponse:
    """A problem document; ``detail`` says what to do next."""
    body = {"type": "about:blank", "title": TITLES[status], "status": status, "code": code, "detail": detail}
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
