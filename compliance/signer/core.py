"""The signer: the log's key and its own memory, in a folder that no database can reach.

It signs a checkpoint only with the proof that the tree it signed last is the beginning of this one, so a
database that was restored or rewritten behind it gets no signature. ``docs/audit-log.md`` has the protocol.
"""

import fcntl
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.canonical import CanonicalError, parse_canonical
from compliance.merkle import EMPTY_ROOT, HASH_BYTES, is_consistent
from compliance.note import (
    NAME,
    Checkpoint,
    NoteError,
    SignedNote,
    VerifierKey,
    decode_base64,
    encode_base64,
    sign,
    verifier_key,
)

MAX_PROOF_HASHES: Final = 64
MAX_SHARDS: Final = 200
MAX_FILE_BYTES: Final = 65_536
RECEIPT_KEYS: Final = frozenset({"id", "leaf_hash", "ts", "index", "within_s"})
AHEAD: Final = timedelta(
    days=1
)  # how far the writer's clock may be before the signer's at the turn of a year
_ORIGIN = re.compile(r"(\S{1,120})/([0-9]{4})")


class SignerError(ValueError):
    """The signer does not sign; the sentence says why. ``size``: what it remembers of this log."""

    def __init__(self, sentence: str, size: int = 0) -> None:
        super().__init__(sentence)
        self.size = size


@dataclass(frozen=True)
class SignerState:
    """What the signer remembers of one log, and the key that verifies it."""

    size: int
    root: bytes
    key: VerifierKey


class SignsCheckpoints(Protocol):
    """What a sequencer asks of a signer, in its own process or behind a socket."""

    def state(self, origin: str) -> SignerState:
        """Raises SignerError for an origin that is none of this signer's."""

    def sign(self, text: str, consistency: list[bytes]) -> SignedNote:
        """The checkpoint ``text``, signed. Raises SignerError."""


class Signer:
    """Key and memory in ``folder``. Only one process may have it; each change is on disk before it counts."""

    def __init__(self, folder: Path) -> None:
        """Raises SignerError for a folder that is not whole, is open to others, or is in use."""
        self._folder = folder
        self._lock = threading.Lock()
        self._alone = _alone(folder)
        try:
            self._log, self._key = self._own_key()
            self._states = self._remembered()
        except SignerError:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have the folder."""
        self._alone.close()

    def state(self, origin: str) -> SignerState:
        """What is remembered of ``origin``: size 0 before its first checkpoint. Raises SignerError."""
        self._year(origin)
        size, root = self._states.get(origin, (0, EMPTY_ROOT))
        return SignerState(size, root, verifier_key(origin, self._key))

    def sign(self, text: str, consistency: list[bytes]) -> SignedNote:
        """``text``, signed, when ``consistency`` leads to it from what is remembered. Raises SignerError."""
        try:
            checkpoint = Checkpoint.parse(text)
        except NoteError as error:
            raise SignerError(str(error)) from error
        with self._lock:
            old = self.state(checkpoint.origin)
            self._check(checkpoint, consistency, old)
            if checkpoint.size != old.size:
                self._keep(checkpoint)
            return sign(text, checkpoint.origin, self._key)

    def sign_receipt(self, origin: str, text: str) -> SignedNote:
        """One line of canonical JSON: what the log promises for an entry. Raises SignerError.

        A checkpoint has three lines, so a receipt never passes for one.
        """
        if not self.state(origin).size:
            raise SignerError("This log has no checkpoint yet.")
        try:
            receipt = parse_canonical(text.removesuffix("\n").encode())
        except (CanonicalError, UnicodeEncodeError) as error:
            raise SignerError("A receipt is one line of canonical JSON.") from error
        if not isinstance(receipt, dict) or set(receipt) != RECEIPT_KEYS or not text.endswith("}\n"):
            raise SignerError(f"A receipt has exactly {', '.join(sorted(RECEIPT_KEYS))}.")
        return sign(text, origin, self._key)

    def _check(self, checkpoint: Checkpoint, consistency: list[bytes], old: SignerState) -> None:
        year = self._year(checkpoint.origin)
        later = [origin for origin in self._states if self._year(origin) > year]
        if later and (checkpoint.size, checkpoint.root) != (old.size, old.root):
            raise SignerError(f"{checkpoint.origin} is closed: {max(later)} was begun.", old.size)
        if year > (datetime.now(UTC) + AHEAD).year:
            raise SignerError(f"{checkpoint.origin} lies in the future. Look at the clocks.", old.size)
        if len(self._states) >= MAX_SHARDS and not old.size:
            raise SignerError("The signer keeps no more logs.")
        if checkpoint.size < max(old.size, 1):
            raise SignerError(
                f"The log has {checkpoint.size} entries; {old.size} were signed before. Entries are missing: "
                "was the database restored from an older copy?",
                old.size,
            )
        if not is_consistent(old.size, checkpoint.size, consistency, old.root, checkpoint.root):
            raise SignerError(
                f"The log does not begin with the {old.size} entries that were signed before. "
                "It was rewritten, or the proof is not from the remembered size.",
                old.size,
            )

    def _year(self, origin: str) -> int:
        match = _ORIGIN.fullmatch(origin)
        if match is None or match[1] != self._log:
            raise SignerError(f"This signer signs {self._log}/YEAR only.")
        return int(match[2])

    def _keep(self, checkpoint: Checkpoint) -> None:
        states = {**self._states, checkpoint.origin: (checkpoint.size, checkpoint.root)}
        content = {name: [size, encode_base64(root)] for name, (size, root) in states.items()}
        try:
            _write(self._folder / "state.json", content)
        except OSError as error:
            raise SignerError(f"The signer cannot remember: {error.strerror}. Nothing was signed.") from error
        self._states = states

    def _own_key(self) -> tuple[str, Ed25519PrivateKey]:
        path = self._folder / "key.json"
        kept = _read(path, "The signer has no key. Make one with --init, or bring it back")
        try:
            key = Ed25519PrivateKey.from_private_bytes(decode_base64(str(kept["key"])))
            return str(kept["log"]), key
        except (KeyError, ValueError) as error:
            raise SignerError(f"{path} is damaged. Bring it back from its copy.") from error

    def _remembered(self) -> dict[str, tuple[int, bytes]]:
        path = self._folder / "state.json"
        kept = _read(
            path, "The signer has lost its memory. It must not sign again with this key; bring it back"
        )
        try:
            states = {origin: (int(size), decode_base64(root)) for origin, (size, root) in kept.items()}
        except (TypeError, ValueError) as error:
            raise SignerError(f"{path} is damaged. Bring it back from its copy.") from error
        if any(size < 1 or len(root) != HASH_BYTES for size, root in states.values()):
            raise SignerError(f"{path} is damaged. Bring it back from its copy.")
        return states


def create(folder: Path, log: str) -> bool:
    """Make folder, key and an empty memory for the trees ``log``/YEAR; False when there is a key already.

    Raises SignerError when the key is there and is another log's, OSError.
    """
    if not NAME.fullmatch(log) or not _ORIGIN.fullmatch(f"{log}/2000"):
        raise SignerError(f"{log!r} cannot name a log. Use letters, digits, - and /.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / "key.json").exists():
        kept = _read(folder / "key.json", "")
        if kept.get("log") != log:
            raise SignerError(f"The key in {folder} signs {kept.get('log')}, not {log}.")
        return False
    key = Ed25519PrivateKey.generate().private_bytes_raw()
    # the key last: a set-up that was cut off has none, and the next one begins anew
    _write(folder / "state.json", {})
    _write(folder / "key.json", {"log": log, "key": encode_base64(key)})
    return True


def _alone(folder: Path) -> IO[str]:
    try:
        if folder.stat().st_mode & 0o077:
            raise SignerError(f"{folder} is open to others. Run: chmod 700 {folder}")
        lock = (folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise SignerError(f"Another signer runs in {folder}.") from error
    except OSError as error:
        raise SignerError(f"{folder} cannot be used: {error.strerror}. Run with --init first.") from error
    return lock


def _read(path: Path, missing: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_FILE_BYTES + 1))
    except FileNotFoundError as error:
        raise SignerError(f"{missing} ({path}).") from error
    except (OSError, ValueError) as error:
        raise SignerError(f"{path} cannot be read. Bring it back from its copy.") from error
    if not isinstance(content, dict):
        raise SignerError(f"{path} is damaged. Bring it back from its copy.")
    return content


def _write(path: Path, content: Mapping[str, object]) -> None:
    """Whole or not at all, and on the disk when this returns."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
