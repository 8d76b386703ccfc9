"""The agents' door of the portal, as a site sees it: HTTPS pinned to the kit's own root, requests signed."""

import hashlib
import json
import os
import secrets
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from pydantic import ValidationError

from fl_jobs.approval import RunRequest
from fl_jobs.approval.records import MAX_REQUEST_BYTES
from site_kits.decisions import DecisionStatement, sign_decision
from site_kits.errors import AgentError
from site_kits.signing import sign_request
from site_kits.site_home import sync_folder
from site_kits.talk import MAX_TALK_BYTES, Answers, QuestionBody
from site_kits.translation import _, wished_language

MAX_ARTIFACT_BYTES = 2 * 2**30
_MAX_ANSWER_BYTES = 2**20
_NOT_NOW = ("certificate is not yet valid", "certificate has expired")  # OpenSSL's words
_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


class PortalUnreachableError(AgentError):
    """No answer came; waiting and asking again makes sense."""


class PortalRefusedError(AgentError):
    """The portal answered with an error; ``status`` and ``code`` are its own words."""

    def __init__(self, sentence: str, *, status: int, code: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class PortalDoor:
    """One connection pool to ``agents_url``. Raises AgentError when the kit's root is unusable."""

    def __init__(self, agents_url: str, root_ca: Path, *, timeout_s: float = 10.0) -> None:
        self.url = agents_url.rstrip("/")
        host = urlsplit(self.url).hostname or ""
        if urlsplit(self.url).scheme != "https" or not host:
            raise AgentError(
                _("site.json names no https address of the portal ({url}). Download the kit again.").format(
                    url=agents_url
                )
            )
        try:
            context = ssl.create_default_context(cafile=str(root_ca))
        except (OSError, ssl.SSLError) as exc:
            raise AgentError(_("rootCA.pem of this kit cannot be read. Unpack the kit again.")) from exc
        # a proxy of the house must not be asked for this machine itself
        self._client = httpx.Client(
            verify=context,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            trust_env=host not in _LOOPBACK_HOSTS,
            follow_redirects=False,
            headers={"Accept-Language": language} if (language := wished_language()) else {},
        )
        self.clock_difference_s: float | None = None

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def probe(self) -> None:
        """Raise PortalUnreachableError unless a server with a certificate of the kit's root answers."""
        with self._spoken():
            self._note_clock(self._client.get(self.url + "/agent/v1/"))

    def enrol(self, site: str, token: str, pin: str, csr_pem: str) -> dict[str, Any]:
        """POST /agent/v1/enrol; the answer has certificate_pem, root_ca_pem, serial, not_after, peers."""
        body = json.dumps({"site": site, "token": token, "pin": pin, "csr_pem": csr_pem}).encode()
        with self._spoken():
            response = self._client.post(
                self.url + "/agent/v1/enrol", content=body, headers={"Content-Type": "application/json"}
            )
        return self._answer(response)

    def heartbeat(self, signer: "Signer", report: dict[str, Any]) -> dict[str, Any]:
        """POST /agent/v1/heartbeat, signed; the answer carries serve orders and ticket keys."""
        return self._post(signer, "heartbeat", json.dumps(report, ensure_ascii=False).encode())

    def renew(self, signer: "Signer") -> dict[str, Any]:
        """POST /agent/v1/renew, signed; the answer is that of ``enrol``."""
        return self._post(signer, "renew", b"")

    def leave(self, signer: "Signer") -> None:
        """POST /agent/v1/leave, signed; from then on the portal refuses this site."""
        self._post(signer, "leave", b"")

    def ask(self, signer: "Signer", method: str, path: str, body: bytes = b"") -> bytes:
        """One signed request; what came back. Raises PortalRefusedError, PortalUnreachableError."""
        headers = signer.headers(method, path, body)
        if body:
            headers |= {"Content-Type": "application/json"}
        with self._spoken():
            response = self._client.request(method, self.url + path, content=body, headers=headers)
        self._answer(response)
        return response.content

    def _post(self, signer: "Signer", name: str, body: bytes) -> dict[str, Any]:
        path = f"/agent/v1/{name}"
        headers = signer.headers("POST", path, body) | {"Content-Type": "application/json"}
        with self._spoken():
            response = self._client.post(self.url + path, content=body, headers=headers)
        return self._answer(response)

    def fetch_request(self, signer: "Signer", run_id: str) -> RunRequest:
        """GET what the site is asked about a run. Raises AgentError for one of another version."""
        path = f"/agent/v1/requests/{run_id}"
        headers = signer.headers("GET", path, b"") | {"Accept-Encoding": "identity"}
        with self._spoken(), self._client.stream("GET", self.url + path, headers=headers) as response:
            content = b""
            for piece in response.iter_bytes(1 << 20):
                content += piece
                if len(content) > MAX_REQUEST_BYTES:
                    raise AgentError(
                        _(
                            "The request of run {run} is too large; it was thrown away. Tell the "
                            "administrator."
                        ).format(run=run_id[:8])
                    )
        if not response.is_success:
            self._answered(response, content)
        try:
            return RunRequest.model_validate_json(content)
        except ValidationError as exc:
            raise AgentError(
                _(
                    "The request of run {run} is not of this version, or its digest is not that of its "
                    "specification. Nothing was decided; update this site's software."
                ).format(run=run_id[:8])
            ) from exc

    def send_decision(self, signer: "Signer", statement: DecisionStatement) -> dict[str, Any]:
        """POST the site's signed decision; the portal keeps it as evidence."""
        body = json.dumps(signer.sign_decision(statement), ensure_ascii=False).encode()
        path = f"/agent/v1/requests/{statement.run_id}/decision"
        headers = signer.headers("POST", path, body) | {"Content-Type": "application/json"}
        with self._spoken():
            response = self._client.post(self.url + path, content=body, headers=headers)
        return self._answer(response)

    def send_question(self, signer: "Signer", run_id: str, question: QuestionBody) -> None:
        """POST what this site wants to know before it decides; the same id again asks nothing new."""
        self._post(signer, f"requests/{run_id}/questions", question.model_dump_json().encode())

    def fetch_answers(self, signer: "Signer", run_id: str) -> Answers:
        """GET what was answered about a run. Raises AgentError for what is not of this version."""
        content = self.ask(signer, "GET", f"/agent/v1/requests/{run_id}/answers")
        try:
            return Answers.model_validate_json(content[:MAX_TALK_BYTES])
        except ValidationError as exc:
            raise AgentError(
                _("The answers about run {run} are not of this version. Update this site's software.").format(
                    run=run_id[:8]
                )
            ) from exc

    def fetch_artifact(
        self, signer: "Signer", digest: str, target: Path, *, limit_bytes: int = MAX_ARTIFACT_BYTES
    ) -> None:
        """Pull a shared part by digest to ``target``; nothing appears there unless size and SHA-256 fit.

        Raises AgentError for a foreign digest or more than ``limit_bytes``, OSError for a full disk.
        """
        path = f"/agent/v1/artifacts/sha256/{digest}"
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
        headers = signer.headers("GET", path, b"") | {"Accept-Encoding": "identity"}
        try:
            with self._spoken(), self._client.stream("GET", self.url + path, headers=headers) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    self._answer(response)
                _receive(response, digest, temporary, limit_bytes)
            temporary.replace(target)
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Turn what the network does into a sentence."""
        try:
            yield
        except httpx.ConnectError as exc:
            if any(words in str(exc) for words in _NOT_NOW):
                raise PortalUnreachableError(
                    _(
                        "This machine's clock says {now} UTC, and at that time the certificate of {url} is "
                        "not valid. Set the clock (timedatectl set-ntp true); if it is right, tell the "
                        "administrator."
                    ).format(now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), url=self.url)
                ) from exc
            if "CERTIFICATE_VERIFY_FAILED" in str(exc):
                raise PortalUnreachableError(
                    _(
                        "{url} answers with a certificate that is not of this federation, so nothing was "
                        "sent. Is another server at this address, or was the kit made by another portal? "
                        "Ask the administrator for a new kit."
                    ).format(url=self.url)
                ) from exc
            raise PortalUnreachableError(self._unreachable()) from exc
        except (httpx.RequestError, httpx.InvalidURL) as exc:
            raise PortalUnreachableError(self._unreachable()) from exc

    def _unreachable(self) -> str:
        return _(
            "The portal at {url} does not answer. Check the network and that outgoing HTTPS to this address "
            "is open in your firewall."
        ).format(url=self.url)

    def _note_clock(self, response: httpx.Response) -> None:
        try:
            there = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return
        self.clock_difference_s = time.time() - there

    def _answer(self, response: httpx.Response) -> dict[str, Any]:
        return self._answered(response, response.content)

    def _answered(self, response: httpx.Response, content: bytes) -> dict[str, Any]:
        self._note_clock(response)
        try:
            answer = json.loads(content[:_MAX_ANSWER_BYTES])
        except ValueError:
            answer = {}
        if not isinstance(answer, dict):
            answer = {}
        if response.is_success:
            return cast("dict[str, Any]", answer)
        sentence = str(answer.get("detail") or answer.get("title") or f"HTTP {response.status_code}")
        raise PortalRefusedError(sentence, status=response.status_code, code=str(answer.get("code", "")))


def _receive(response: httpx.Response, digest: str, temporary: Path, limit_bytes: int) -> None:
    """Write a streamed body to ``temporary``, fsynced. Raises AgentError for a foreign digest or size."""
    received, size = hashlib.sha256(), 0
    with temporary.open("xb") as file:
        for piece in response.iter_bytes(1 << 20):
            size += len(piece)
            if size > limit_bytes:
                raise AgentError(
                    _("The portal sent more than {mib} MiB for {digest}…; it was thrown away.").format(
                        mib=limit_bytes // 2**20, digest=digest[:12]
                    )
                )
            received.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if received.hexdigest() != digest:
        raise AgentError(
            _(
                "The shared part that arrived is not the one that was ordered ({digest}…); it was thrown "
                "away. Tell the administrator if this repeats."
            ).format(digest=digest[:12])
        )


class Signer:
    """The site's key and certificate serial, ready to sign requests."""

    def __init__(self, key: RSAPrivateKey, site: str, serial: str) -> None:
        self._key, self._site, self._serial = key, site, serial

    def sign_decision(self, statement: DecisionStatement) -> dict[str, str]:
        """The body that carries a decision with its signature."""
        return sign_decision(self._key, statement)

    def headers(self, method: str, path: str, body: bytes) -> dict[str, str]:
        """The X-Consilium headers of one request."""
        return dict(
            sign_request(self._key, site=self._site, serial=self._serial, method=method, path=path, body=body)
        )
