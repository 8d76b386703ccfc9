"""Widening the strict content policy for one response, where a page must talk to one more address."""

from django.http import HttpResponseBase


def allow_connect(response: HttpResponseBase, *origins: str) -> None:
    """Let this page's scripts send requests to ``origins`` (``scheme://host:port``) besides its own.

    For the clinic page, whose browser posts straight to the site's inference address. django-csp reads the
    attribute when it writes the header.
    """
    known: dict[str, list[str]] = getattr(response, "_csp_update", None) or {}
    known["connect-src"] = [*known.get("connect-src", []), *origins]
    response._csp_update = known  # type: ignore[attr-defined]
