"""The signer's socket, both ends: one JSON line per request and one per answer (``docs/audit-log.md``)."""

import contextlib
import json
import os
import shutil
import socket
import socketserver
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from compliance.note import NoteError, SignedNote, VerifierKey, decode_base64, encode_base64
from compliance.signer.core import MAX_PROOF_HASHES, Signer, SignerError, SignerState

MAX_LINE_BYTES: Final = 65_536
IDLE_S: Final = 30.0
SOCKET_NAME: Final = "signer.socket"


class SignerAwayError(SignerError):
    """Nobody answers at the socket, or not in time."""


class SignerClient:
    """A signer in another process. Every call is a connection of its own, with a deadline for each step."""

    def __init__(self, path: Path, timeout_s: float = 2.0) -> None:
        self._path, self._timeout_s = path, timeout_s

    def state(self, origin: str) -> SignerState:
        """Raises SignerError, SignerAwayError."""
        answer = self._ask({"state": origin})
        try:
            root = decode_base64(str(answer["root"]))
            return SignerState(int(answer["size"]), root, VerifierKey.parse(str(answer["key"])))
        except (KeyError, TypeError, ValueError) as error:
            raise SignerAwayError("The signer's answer cannot be read.") from error

    def sign(self, text: str, consistency: list[bytes]) -> SignedNote:
        """Raises SignerError, SignerAwayError."""
        proof = [encode_base64(digest) for digest in consistency]
        return _note(self._ask({"checkpoint": text, "consistency": proof}))

    def sign_receipt(self, origin: str, text: str) -> SignedNote:
        """Raises SignerError, SignerAwayError."""
        return _note(self._ask({"receipt": text, "origin": origin}))

    def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX) as link, _short(self._path) as address:
                link.settimeout(self._timeout_s)
                link.connect(address)
                link.sendall(json.dumps(request).encode() + b"\n")
                with link.makefile("rb") as answers:
                    answer = json.loads(answers.readline(MAX_LINE_BYTES + 1))
        except (OSError, ValueError) as error:
            raise SignerAwayError(f"The signer does not answer at {self._path}.") from error
        if not isinstance(answer, dict):
            raise SignerAwayError("The signer's answer cannot be read.")
        if "error" in answer:
            size = answer.get("size")
            raise SignerError(str(answer["error"]), size if isinstance(size, int) else 0)
        return answer


class SignerServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers at ``path``, which only this user can open; with ``group``, that group's members too."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, signer: Signer, path: Path, group: str = "") -> None:
        """Raises OSError, LookupError for an unknown group."""
        self.signer = signer
        path.unlink(missing_ok=True)  # of a process that was killed: the folder's lock says we are alone
        old = os.umask(0o177)
        try:
            with _short(path) as address:
                super().__init__(address, _Handler)
        finally:
            os.umask(old)
        if group:
            shutil.chown(path, group=group)
            path.chmod(0o660)


class _Handler(socketserver.StreamRequestHandler):
    timeout = IDLE_S
    server: SignerServer

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the other side has gone: there is nobody to tell
            while line := self.rfile.readline(MAX_LINE_BYTES + 1):
                self.wfile.write(answer(self.server.signer, line) + b"\n")
                if len(line) > MAX_LINE_BYTES:
                    return


def answer(signer: Signer, line: bytes) -> bytes:
    """The answer to one request line, which may say anything."""
    try:
        return json.dumps(_answer(signer, _request(line))).encode()
    except SignerError as error:
        return json.dumps({"error": str(error), "size": error.size}).encode()


def _request(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise SignerError(f"A request is one line of at most {MAX_LINE_BYTES} bytes.")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SignerError("A request is one line of JSON.") from error
    if not isinstance(request, dict):
        raise SignerError("A request is a JSON object.")
    return request


def _answer(signer: Signer, request: dict[str, Any]) -> dict[str, object]:
    match request:
        case {"state": str(origin), **rest} if not rest:
            state = signer.state(origin)
            return {"size": state.size, "root": encode_base64(state.root), "key": str(state.key)}
        case {"checkpoint": str(text), "consistency": list(proof), **rest} if not rest:
            return {"note": str(signer.sign(text, _hashes(proof)))}
        case {"receipt": str(text), "origin": str(origin), **rest} if not rest:
            return {"note": str(signer.sign_receipt(origin, text))}
    raise SignerError("A request has checkpoint and consistency, or state, or receipt and origin.")


def _hashes(proof: list[object]) -> list[bytes]:
    if len(proof) > MAX_PROOF_HASHES or not all(isinstance(one, str) for one in proof):
        raise SignerError(f"A consistency proof is at most {MAX_PROOF_HASHES} base64 hashes.")
    try:
        return [decode_base64(str(one)) for one in proof]
    except NoteError as error:
        raise SignerError(str(error)) from error


def _note(answer: dict[str, Any]) -> SignedNote:
    try:
        return SignedNote.parse(str(answer.get("note")))
    except NoteError as error:
        raise SignerAwayError("The signer's answer cannot be read.") from error


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for ``path``: a socket's is at most 107 bytes, so a long one goes through its folder."""
    if len(os.fsencode(path)) <= 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
