"""What stands before every route: who may ask from a browser and under which name."""

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from site_kits.inference.problems import RequestProblemError, problem_response
from site_kits.translation import _, choose_language, speaking

_DRAIN_BYTES = 256 * 2**20
_DRAIN_S = 15
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Doors:
    """CORS for the portal's origin alone, a check of the Host header against DNS rebinding, strict headers.

    ``hosts`` are the names this site may be called by; None when it listens on every address.
    """

    def __init__(self, app: ASGIApp, *, web_origin: Callable[[], str], hosts: frozenset[str] | None) -> None:
        self._app, self._web_origin, self._hosts = app, web_origin, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with speaking(choose_language(headers.get("accept-language", ""))):
            await self._answer(scope, receive, send, headers)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        origin = headers.get("origin", "")
        allowed = bool(origin) and origin == self._web_origin()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    answer.setdefault(name, value)
                answer.add_vary_header("Origin")
                if allowed:
                    answer["Access-Control-Allow-Origin"] = origin
            await send(message)

        if not self._knows(headers.get("host", "")):
            sentence = _(
                "This site is not known by the name in the request. Use the address the portal shows."
            )
            response: ASGIApp = problem_response(RequestProblemError(404, "host", sentence))
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            response = preflight_answer(headers) if allowed else Response(status_code=403)
        else:
            response = self._app
        await response(scope, receive, send_guarded)

    def _knows(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        return self._hosts is None or name.lower() in self._hosts


def preflight_answer(headers: Headers) -> Response:
    """Yes to the portal's page, also where Chromium asks whether it may reach a private address."""
    answer = Response(status_code=204)
    answer.headers["Access-Control-Allow-Methods"] = "POST"
    answer.headers["Access-Control-Allow-Headers"] = "authorization, content-type"
    answer.headers["Access-Control-Max-Age"] = "600"
    for network in ("Private", "Local"):
        if headers.get(f"access-control-request-{network}-network".lower()) == "true":
            answer.headers[f"Access-Control-Allow-{network}-Network"] = "true"
    return answer


class BodyGauge:
    """Counts a body as it is read, so that after a refusal the rest can be read and thrown away.

    A browser that is still sending shows "connection reset" instead of the sentence when nobody reads on.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._finished = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._finished = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read on, at most 256 MiB and 15 s, keeping nothing."""
        size = 0
        try:
            async with asyncio.timeout(_DRAIN_S):
                while not self._finished and size < _DRAIN_BYTES:
                    size += len((await self()).get("body", b""))
        except TimeoutError:
            return
