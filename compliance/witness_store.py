"""The witness's memory in one small file: replaced whole, on disk before the call returns."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compliance.merkle import EMPTY_ROOT
from compliance.note import NoteError, decode_base64, encode_base64
from compliance.witness import WitnessState

MAX_STATE_BYTES = 2**18


class StateDamagedError(ValueError):
    """The file is there and says nothing usable. It is never taken for an empty memory."""


class FileWitnessStore:
    """``path`` holds the state of one log. Several processes may use it; each change is made under a lock."""

    def __init__(self, path: Path, origin: str) -> None:
        self._path, self._origin = path, origin

    def read(self) -> WitnessState:
        """Raises StateDamagedError, OSError."""
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_STATE_BYTES + 1)
        except FileNotFoundError:
            return WitnessState(self._origin)
        state = _parsed(content)
        if state is None or state.origin != self._origin:
            raise StateDamagedError(f"{self._path} is damaged, or of another log.")
        return state

    def replace(self, old: WitnessState, new: WitnessState) -> bool:
        """Compare and set, fsync before and after the rename. Raises StateDamagedError, OSError."""
        with self._locked():
            if self.read() != old:
                return False
            temporary = self._path.with_name(f".{self._path.name}.new")
            with temporary.open("wb") as file:
                file.write(_written(new))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            _sync_folder(self._path.parent)
            return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f".{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _written(state: WitnessState) -> bytes:
    facts = {
        "origin": state.origin,
        "size": state.size,
        "root": encode_base64(state.root),
        "note": state.note,
        "evidence": state.evidence,
    }
    return json.dumps(facts, ensure_ascii=False, indent=1).encode()


def _parsed(content: bytes) -> WitnessState | None:
    try:
        facts: dict[str, Any] = json.loads(content) if len(content) <= MAX_STATE_BYTES else {}
        origin, size, note, evidence = (facts[name] for name in ("origin", "size", "note", "evidence"))
        root = decode_base64(facts["root"])
    except (ValueError, NoteError, KeyError, TypeError):
        return None
    texts = all(isinstance(text, str) for text in (origin, note, evidence))
    fits = type(size) is int and size >= 0 and len(root) == len(EMPTY_ROOT) and texts
    return WitnessState(origin, size, root, note, evidence) if fits else None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
