"""The console asked without a socket, by somebody who signed in; readings run in real processes."""

import asyncio
import html
import re

import httpx

from site_kits.agent.passphrase import new_passphrase
from site_kits.console.app import create_app

ADDRESS = "http://127.0.0.1:8765"
TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


class Operator:
    """One browser: cookies, and the token of the page it saw last."""

    def __init__(self, home, *, signed_in=True):
        self.home, self.app = home, create_app(home)
        self.cookies = httpx.Cookies()
        self.token, self.text = "", ""
        self.passphrase = new_passphrase(home)
        if signed_in:
            self.get("/login")
            assert self.post("/login", passphrase=self.passphrase).headers["location"] == "/"

    def get(self, path, **more):
        return asyncio.run(self._go("GET", path, **more))

    def post(self, path, **form):
        return asyncio.run(self._go("POST", path, data={"token": self.token, **form}))

    def raw(self, method, path, **more):
        return asyncio.run(self._go(method, path, **more))

    async def _go(self, method, path, **more):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, cookies=self.cookies) as client:
            answer = await client.request(method, path, **more)
            while pending := [one for one in asyncio.all_tasks() if "_read" in str(one.get_coro())]:
                await asyncio.wait(pending)
            self.cookies = client.cookies
        self.text = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))
        if found := TOKEN.search(answer.text):
            self.token = found[1]
        return answer

    def describe(self, folder, file, *roles, labels=""):
        """Give the columns their roles, in order, and let every row be checked."""
        self.get(f"/data/{folder}/")
        form = {f"role-{at}": role for at, role in enumerate(roles)}
        self.post(f"/data/{folder}/describe", file=file, labels=labels, **form)
        return self.get(f"/data/{folder}/")
