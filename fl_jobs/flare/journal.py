"""A run's folder on the server: aggregates and the journal that says which of them count.

A round is committed when its journal line is on disk. The aggregate is written before the line, so a line
never names a file that is missing; a file without a line is the rest of a crash and is written again.

Only the newest epoch (submission of the run to NVFlare) may write. A server that was thought dead, and is
not, finds a higher number in ``EPOCH`` and is refused; every write looks there under one lock between
processes, so there is no moment in which two epochs write. What a line names is never written again.
"""

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fl_jobs.errors import AlreadyCommittedError, FLJobError, ModelFileError, StaleEpochError
from fl_jobs.messages import TensorMap
from fl_jobs.tensor_files import encode_tensors, read_tensors, write_bytes

JOURNAL = "journal.jsonl"
EPOCH = "EPOCH"
LOCK = "LOCK"  # never replaced and never removed: a lock on a file that was renamed away guards nothing
LINES_MAX = 500


def round_file(number: int) -> str:
    """Return the name of a round's aggregate in the run's folder."""
    return f"r{number:04d}.safetensors"


class RunFolder:
    """``rounds/<run id>/`` of the server. Safe to read from the thread that answers the portal."""

    def __init__(self, folder: Path, *, epoch: int) -> None:
        """Open or create the folder for ``epoch``; a half-written last line (a crash) is cut off.

        Raises StaleEpochError when a later epoch has been here.
        """
        self.folder, self._epoch, self._lock = folder, epoch, threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self._guard = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        self._journal = os.open(folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._lines: list[dict[str, Any]] = []
        self._size = 0
        try:
            with self._exclusive():
                self._read_on()
                self._check_epoch(max((line["epoch"] for line in self._lines), default=0))
                if self._stored_epoch() != epoch:
                    write_bytes(folder / EPOCH, f"{epoch}\n".encode())
        except (FLJobError, ValueError, OSError):
            self.close()
            raise

    def append(self, record: dict[str, Any]) -> None:
        """Write one line with time and epoch, and return when it is on disk.

        Raises StaleEpochError when a later epoch has taken over, AlreadyCommittedError for a second line of
        a round or a site counted twice in one; then nothing is written.
        """
        line = {**record, "epoch": self._epoch, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        data = json.dumps(line, sort_keys=True, allow_nan=False).encode() + b"\n"
        with self._current():
            self._check_unique(line)
            try:
                self._write_whole(data)
            except OSError:
                os.ftruncate(self._journal, self._size)  # half a line would swallow the next one
                raise
            self._size += len(data)
            self._lines.append(line)

    def write_tensors(self, name: str, tensors: TensorMap) -> str:
        """Write an aggregate whole or not at all; return its SHA-256. It counts once a line names it.

        Raises StaleEpochError, and AlreadyCommittedError when a line names the file already.
        """
        data = encode_tensors(tensors)
        with self._current():
            if any(line.get("file") == name for line in self._lines):
                raise AlreadyCommittedError(
                    f"{name} is committed and is not written again. Go on with the next round."
                )
            write_bytes(self.folder / name, data)
        return hashlib.sha256(data).hexdigest()

    def write_artifact(self, path: Path, data: bytes) -> None:
        """Write a file that no line names, whole or not at all; ``path`` is below the folder."""
        with self._current():
            write_bytes(self.folder / path, data)

    def lines(self, since: int) -> dict[str, Any]:
        """Return at most 500 lines from number ``since`` (the first is 0) and the number to ask for next."""
        with self._lock:
            chosen = self._lines[max(since, 0) : max(since, 0) + LINES_MAX]
        return {"lines": chosen, "next": max(since, 0) + len(chosen)}

    def all_lines(self) -> list[dict[str, Any]]:
        """Return the whole journal, of earlier epochs too."""
        with self._lock:
            return list(self._lines)

    def last_committed(self) -> int:
        """Return the number of the last committed round, 0 before the first."""
        return max((line["round"] for line in self.all_lines() if line["kind"] == "round"), default=0)

    def phases(self) -> dict[tuple[str, str], str]:
        """Return the file of every one-off phase that is committed, by arm and phase, in their order."""
        done = [line for line in self.all_lines() if line["kind"] == "phase" and "file" in line]
        return {(line["arm"], line["phase"]): line["file"] for line in done}

    def has(self, kind: str) -> bool:
        """Return whether the journal has a line of ``kind``, of whatever epoch."""
        return any(line["kind"] == kind for line in self.all_lines())

    def read_round(self, number: int) -> TensorMap:
        """Return the aggregate of a committed round. Raises ModelFileError when it is missing or altered."""
        return self.read_file(
            round_file(number), f"Round {number} was never committed here; start from round 1."
        )

    def read_file(self, name: str, otherwise: str = "") -> TensorMap:
        """Return a committed file. Raises ModelFileError (``otherwise`` when no line names it)."""
        digests = [line["file_sha256"] for line in self.all_lines() if line.get("file") == name]
        if not digests:
            raise ModelFileError(otherwise or f"{name} was never committed here; start from round 1.")
        return read_tensors(self.folder / name, sha256=digests[-1])

    def close(self) -> None:
        """Close the journal."""
        os.close(self._journal)
        os.close(self._guard)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Alone among threads and processes; the kernel gives the lock back when a holder is killed."""
        with self._lock:
            fcntl.flock(self._guard, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._guard, fcntl.LOCK_UN)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Alone, and still the newest epoch, with every line of the file in memory."""
        with self._exclusive():
            self._check_epoch(self._stored_epoch())
            self._read_on()
            yield

    def _write_whole(self, data: bytes) -> None:
        if os.write(self._journal, data) != len(data):
            raise OSError("The disk is full: a journal line was not written. Make room on it.")
        os.fsync(self._journal)

    def _stored_epoch(self) -> int:
        try:
            return int((self.folder / EPOCH).read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
        except ValueError as error:
            raise ModelFileError(
                f"{self.folder / EPOCH} holds no number. Write the highest epoch of {JOURNAL} into it."
            ) from error

    def _check_epoch(self, found: int) -> None:
        found = max(found, self._stored_epoch())
        if found > self._epoch:
            raise StaleEpochError(
                f"Epoch {self._epoch} of this run has ended: epoch {found} goes on with it. "
                "Nothing was written; this job can be stopped."
            )

    def _read_on(self) -> None:
        """Take in the lines that another process has written; cut off half a line, whose writer is dead."""
        length = os.fstat(self._journal).st_size
        if length == self._size:
            return
        raw = os.pread(self._journal, length - self._size, self._size)
        whole = raw[: raw.rfind(b"\n") + 1]
        self._lines += [json.loads(line) for line in whole.splitlines()]
        self._size += len(whole)
        os.ftruncate(self._journal, self._size)

    def _check_unique(self, line: dict[str, Any]) -> None:
        """A site counts once in a round, and a round once in a run."""
        if line.get("kind") != "round":
            return
        number, sites = line["round"], list(line.get("sites", ()))
        if any(other["kind"] == "round" and other["round"] == number for other in self._lines):
            raise AlreadyCommittedError(
                f"Round {number} is committed and is not counted again. Go on with round {number + 1}."
            )
        if len(set(sites)) != len(sites):
            raise AlreadyCommittedError(f"A site would count twice in round {number}; it is not committed.")
