"""What stands before every page: the name it is called by, the session, the token of a form.

A page is closed unless it says ``is_public``: nothing is reachable because somebody forgot to lock it.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fl_jobs.approval.records import REQUESTS
from site_kits.console.pages import page, refusal
from site_kits.console.sessions import Session, Sessions
from site_kits.site_home import SiteHome
from site_kits.translation import LANGUAGES, _, choose_language, speaking

MAX_FORM_BYTES = 2**20
MAX_FORM_FIELDS = 5000
_HOSTS = {"127.0.0.1", "localhost", "[::1]"}
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # "no-referrer" would make the Origin of our own forms "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Visit:
    """A request that came through the door, as pages see it."""

    request: Request
    home: SiteHome
    session: Session | None
    token: str
    form: dict[str, list[str]] = field(default_factory=dict)

    def one(self, name: str) -> str:
        """A field of the form; empty when it is not there."""
        return self.form.get(name, [""])[0].strip()

    def page(self, template: str, *, status: int = 200, **values: object) -> Response:
        """A page with this browser's token in its forms and, once, the sentence that waits for it."""
        note = self.session.note if self.session else None
        if self.session:
            self.session.note = None
        values |= {"token": self.token, "note": note, "signed_in": self.session is not None}
        values["waiting"] = undecided(self.home) if self.session else 0
        return page(self.home, template, status=status, path=self.request.url.path, **values)

    def go(self, address: str, sentence: str = "", state: str = "good") -> Response:
        """To another page, which says ``sentence``."""
        if self.session and sentence:
            self.session.note = (state, sentence)
        return RedirectResponse(address, 303)


def undecided(home: SiteHome) -> int:
    """How many requests nobody has decided; counted by names, so that every page can show it."""
    folders = home.root.glob(f"{REQUESTS}/*/request.json")
    return sum(not path.with_name("decision.json").exists() for path in folders)


Page = Callable[[Visit], Awaitable[Response]]


class Doors:
    """Makes routes of pages. ``cookie`` has the folder in its name: cookies know no ports."""

    def __init__(self, home: SiteHome, sessions: Sessions) -> None:
        self.home, self.sessions = home, sessions
        self.cookie = f"consilium_{hashlib.sha256(str(home.root).encode()).hexdigest()[:12]}"

    def route(self, path: str, show: Page, *methods: str, is_public: bool = False) -> Route:
        """A page behind the door; GET when no method is named."""

        async def answer(request: Request) -> Response:
            secret = request.cookies.get(self.cookie, "")[:200]
            session = self.sessions.find(secret, is_used="again" not in request.query_params)
            if session is None and not is_public:
                return self._outside(request)
            visit = Visit(request, self.home, session, self.sessions.token_for(secret))
            if request.method == "POST":
                try:
                    visit.form = await _read_form(request)
                except (ValueError, ClientDisconnect):
                    sentence = _("This form is too large or damaged. Open the page again.")
                    return refusal(self.home, 413, sentence)
                if not self._is_ours(request, secret, visit.one("token")):
                    sentence = _("This form is too old or is not of this console. Open the page again.")
                    return refusal(self.home, 403, sentence)
            return await show(visit)

        return Route(path, answer, methods=list(methods) or ["GET"])

    def keep(self, response: Response, secret: str) -> Response:
        """Give the browser ``secret``. Not "Secure": the console has no TLS, it never leaves the machine."""
        response.set_cookie(self.cookie, secret, httponly=True, samesite="strict", path="/")
        return response

    def _is_ours(self, request: Request, secret: str, token: str) -> bool:
        origin = request.headers.get("origin")
        host = request.headers.get("host", "")
        return origin in (None, f"http://{host}") and self.sessions.is_token_of(secret, token)

    def _outside(self, request: Request) -> Response:
        if request.method == "GET":
            return RedirectResponse("/login", 303)
        return refusal(self.home, 401, _("You are signed out. Sign in and do it again."))


async def _read_form(request: Request) -> dict[str, list[str]]:
    """Raises ValueError for a form over the limits."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise ValueError("too large")
    return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)


class Front:
    """Before everything: the Host header against DNS rebinding, strict headers, the language."""

    def __init__(self, app: ASGIApp, home: SiteHome) -> None:
        self._app, self._home = app, home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        wish = request.query_params.get("lang", "")
        language = wish if wish in LANGUAGES else request.cookies.get("consilium_lang", "")
        if language not in LANGUAGES:
            language = choose_language(request.headers.get("accept-language", ""))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.lower().encode(), value.encode()) for name, value in _SECURITY.items()]
                if wish == language:
                    cookie = f"consilium_lang={language}; Path=/; SameSite=Strict; HttpOnly"
                    headers.append((b"set-cookie", cookie.encode()))
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        with speaking(language):
            app = self._app
            if _name(request.headers.get("host", "")) not in _HOSTS:
                sentence = _("This console is open on its own machine only. Use the address the site shows.")
                app = refusal(self._home, 404, sentence)
            await app(scope, receive, send_guarded)


def _name(host: str) -> str:
    return (host if host.endswith("]") else host.rsplit(":", 1)[0]).lower()
