"""The operator of one site at the site's own console, by HTTP: reads what would leave, approves."""

import re

import httpx

from infra.demo.person import RefusedError

TOKEN = re.compile(r'name="token" value="([^"]+)"')
DIGEST = re.compile(r'name="digest" value="([0-9a-f]{64})"')
TENSOR = re.compile(r"<tr><td><code>(?:global|personal)/[^<]+</code></td>")


class Operator:
    """Signed in to the console at ``address``."""

    def __init__(self, address: str, passphrase: str) -> None:
        self._client = httpx.Client(base_url=address.rstrip("/"), timeout=30, trust_env=False)
        answer = self._submit("/login", "/login", {"passphrase": passphrase})
        if answer.url.path == "/login":
            raise RefusedError("The site's console did not take its passphrase.")

    def is_asked(self, run_id: str) -> bool:
        """Whether the run's request has arrived."""
        return self._client.get(f"/runs/{run_id}/", follow_redirects=True).status_code == 200

    def tensors(self, run_id: str) -> int:
        """How many tensors the page lists under what would leave."""
        return len(TENSOR.findall(self._client.get(f"/runs/{run_id}/").text))

    def approve(self, run_id: str, person: str) -> None:
        """Approve exactly the digest the page shows. Raises RefusedError with what the page says instead."""
        path = f"/runs/{run_id}/"
        digest = DIGEST.search(self._client.get(path).text)
        if digest is None:
            raise RefusedError(f"The console shows no digest of run {run_id}.")
        fields = {"answer": "approve", "digest": digest[1], "person": person}
        answer = self._submit(path, f"{path}decide", fields)
        if 'class="note good"' not in answer.text:
            raise RefusedError(f"The console did not take the approval of run {run_id}.")

    def _submit(self, page: str, path: str, fields: dict[str, str]) -> httpx.Response:
        token = TOKEN.search(self._client.get(page).text)
        answer = self._client.post(
            path, data={**fields, "token": token[1] if token else ""}, follow_redirects=True
        )
        if answer.status_code >= 400:
            raise RefusedError(f"The console refused {path} (HTTP {answer.status_code}).")
        return answer
