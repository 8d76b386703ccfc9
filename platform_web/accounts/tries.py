"""Where passwords and codes together were wrong too often, every door that asks for either is closed."""

from typing import cast

from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_lockout_response
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse


def closed_page(request: HttpRequest, person: User) -> HttpResponse | None:
    """The page of too many tries, or None while ``person`` may still try from this address."""
    credentials = {"username": person.get_username()}
    if AxesProxyHandler.is_allowed(request, credentials):
        return None
    return cast("HttpResponse", get_lockout_response(request, credentials=credentials))
