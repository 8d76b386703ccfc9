"""One person at a browser: signs in, fills forms, reads pages. Nothing but HTTP to the portal."""

import html
import re
import time
from typing import Any

import httpx

CSRF = re.compile(r'name="csrfmiddlewaretoken"[^>]*value="([^"]+)"')
ERRORS = re.compile(
    r'<(?:li|p|div)[^>]*class="[^"]*(?:error|alert)[^"]*"[^>]*>(.*?)</(?:li|p|div)>', re.DOTALL
)
TAGS = re.compile(r"<[^>]+>")
BUSY = 503
BUSY_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)


class RefusedError(Exception):
    """The portal did not do what the person asked; carries the sentence the page shows."""


class Person:
    """A signed-in user of the portal at ``origin``."""

    def __init__(self, origin: str, username: str, password: str) -> None:
        self.username = username
        self._client = httpx.Client(base_url=origin, timeout=30, headers={"Accept-Language": "en"})
        answer = self.submit("/accounts/login/", {"username": username, "password": password})
        if answer.url.path == "/accounts/login/":
            raise RefusedError(f"{username} could not sign in. Were the demo's logins changed?")

    def page(self, path: str) -> str:
        """Return the page's HTML. Raises RefusedError unless the portal answers 200."""
        return self._checked(self._ask("GET", path)).text

    def json(self, path: str) -> dict[str, Any]:
        """Return the JSON the page's own script reads."""
        answer: dict[str, Any] = self._checked(self._ask("GET", path)).json()
        return answer

    def submit(self, path: str, fields: dict[str, Any], *, form_page: str | None = None) -> httpx.Response:
        """Open the form, fill in ``fields``, send it, follow the redirect."""
        opened = self._ask("GET", form_page or path)
        token = CSRF.search(opened.text)
        cookie = self._client.cookies.get("csrftoken")
        if token is None and cookie is None:
            raise RefusedError(
                f"{self.username} sees no form at {form_page or path} (HTTP {opened.status_code})."
            )
        origin = str(self._client.base_url).rstrip("/")
        answer = self._ask(
            "POST",
            path,
            data={**fields, "csrfmiddlewaretoken": token.group(1) if token else cookie},
            headers={"Referer": f"{origin}{path}", "Origin": origin},
        )
        return self._checked(answer)

    def _ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """One request; again after a while where the page of a busy log says that nothing was done."""
        for pause_s in (*BUSY_PAUSES_S, None):
            answer = self._client.request(method, path, follow_redirects=True, **given)
            if answer.status_code != BUSY or "Retry-After" not in answer.headers or pause_s is None:
                break
            time.sleep(pause_s)
        return answer

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        sentences = (
            [_plain(found) for found in ERRORS.findall(answer.text)] if "html" in _kind(answer) else []
        )
        if answer.status_code >= 400:
            said = " ".join(sentences) or _plain(answer.text)[:300]
            raise RefusedError(f"{answer.request.url.path}: HTTP {answer.status_code}. {said}")
        if answer.request.method == "POST" and sentences:
            raise RefusedError(f"{answer.request.url.path}: {' '.join(sentences)}")
        return answer


def _kind(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", ""))


def _plain(markup: str) -> str:
    return " ".join(html.unescape(TAGS.sub(" ", markup)).split())
