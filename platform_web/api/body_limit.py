"""Refusing large bodies before they are read: Django's ASGI handler would spool them to disk first."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import override

from site_kits.translation import choose_language

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class BodyTooLargeError(Exception):
    """The client sent more than it announced or than is allowed."""


class BodyLimit:
    """An ASGI wrapper: 413 with problem+json when a request is larger than ``limit_bytes``.

    Also answers the lifespan messages, which Django does not know.
    """

    def __init__(self, application: Application, limit_bytes: int) -> None:
        self.application = application
        self.limit_bytes = limit_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _answer_lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        if _announced_bytes(scope) > self.limit_bytes:
            await self._refuse(scope, send)
            return
        received, started = 0, False

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit_bytes:  # a chunked body announces nothing
                raise BodyTooLargeError
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.application(scope, limited_receive, watched_send)
        except BodyTooLargeError:
            if not started:
                await self._refuse(scope, send)

    async def _refuse(self, scope: Message, send: Send) -> None:
        wished = dict(scope["headers"]).get(b"accept-language", b"").decode("latin-1")
        with override("zh-hans" if choose_language(wished) == "zh" else "en"):
            title = _("Too large")
            detail = _("The request is larger than %(most)d bytes. Send less; nothing was changed.")
        problem = {
            "type": "about:blank",
            "title": title,
            "status": 413,
            "code": "too_large",
            "detail": detail % {"most": self.limit_bytes},
        }
        headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(problem).encode()})


def _announced_bytes(scope: Message) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 2**63
    return 0


async def _answer_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
