"""The operator's console: sign-in, what the site is doing, its data, what it is asked and what left it."""

import asyncio
import secrets

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from site_kits.agent.passphrase import has_passphrase
from site_kits.agent.site_acts import log_act
from site_kits.console import overview
from site_kits.console.data_pages import DataPages
from site_kits.console.doors import Doors, Front, Visit
from site_kits.console.jobs import Readings
from site_kits.console.pages import icon, refusal, style
from site_kits.console.picture_pages import PicturePages
from site_kits.console.run_pages import RunPages
from site_kits.console.sessions import Attempts, Sessions
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome
from site_kits.translation import _


class SignIn:
    """One passphrase, one person: the operator who can read it in the terminal."""

    def __init__(self, doors: Doors, attempts: Attempts) -> None:
        self._doors, self._attempts = doors, attempts

    async def form(self, visit: Visit) -> Response:
        """GET /login. The browser gets a cookie at once, so that the form's token belongs to it."""
        secret = visit.request.cookies.get(self._doors.cookie, "")[:200] or secrets.token_urlsafe(32)
        visit.token = self._doors.sessions.token_for(secret)
        return self._doors.keep(self._page(visit), secret)

    async def sign_in(self, visit: Visit) -> Response:
        """POST /login."""
        wait_s = self._attempts.wait_s()
        if wait_s > 0:
            sentence = _("Too many wrong passphrases. Try again in {s} seconds.").format(s=int(wait_s) + 1)
            return self._page(visit, sentence, 429)
        if not await asyncio.to_thread(self._attempts.check, visit.one("passphrase")):
            sentence = _("This is not the passphrase. A new one: ./start.sh console-password")
            said = await asyncio.to_thread(_logged, visit.home, "operator.sign_in_refused")
            return self._page(visit, said or sentence, 503 if said else 200)
        if said := await asyncio.to_thread(_logged, visit.home, "operator.signed_in"):
            return self._page(visit, said, 503)
        return self._doors.keep(visit.go("/"), self._doors.sessions.open())

    async def sign_out(self, visit: Visit) -> Response:
        """POST /logout."""
        self._doors.sessions.close(visit.request.cookies.get(self._doors.cookie, ""))
        await asyncio.to_thread(_logged, visit.home, "operator.signed_out")  # signed out in any case
        return visit.go("/login")

    def _page(self, visit: Visit, sentence: str = "", status: int = 200) -> Response:
        known = has_passphrase(visit.home)
        return visit.page("login.html", status=status, sentence=sentence, has_passphrase=known)


def _logged(home: SiteHome, act: str) -> str:
    """Empty when the entry is in the site's own log; else why nobody gets in now."""
    try:
        log_act(home, act)
    except AgentError as error:
        return str(error)
    return ""


async def show_overview(visit: Visit) -> Response:
    """GET /."""
    return visit.page("overview.html", **await asyncio.to_thread(overview.facts, visit.home))


def create_app(home: SiteHome) -> ASGIApp:
    """The ASGI application of one site's console."""
    doors = Doors(home, Sessions(home))
    sign_in, data = SignIn(doors, Attempts(home)), DataPages(Readings(home))
    routes = [
        Route("/console.css", style),
        Route("/favicon.ico", icon),
        doors.route("/login", sign_in.form, is_public=True),
        doors.route("/login", sign_in.sign_in, "POST", is_public=True),
        doors.route("/logout", sign_in.sign_out, "POST"),
        doors.route("/", show_overview),
        *data.routes(doors),
        *PicturePages(data).routes(doors),
        *RunPages(home).routes(doors),
    ]

    async def nothing_here(_request: Request, exc: Exception) -> Response:
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        return refusal(home, status, _("There is nothing at this address. Go back to the first page."))

    async def own_fault(_request: Request, _exc: Exception) -> Response:
        return refusal(home, 500, _("The console could not answer. The reason stands in logs/console.log."))

    handlers = {HTTPException: nothing_here, Exception: own_fault}
    return Front(Starlette(routes=routes, exception_handlers=handlers), home)
