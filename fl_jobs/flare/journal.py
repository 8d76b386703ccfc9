"""A run's folder on the server: aggregates and the journal that says which of them count.

A round is committed when its journal line is on disk. The aggregate is written before the line, so a line
never names a file that is missing; a file without a line is the rest of a crash and is written again.
"""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fl_jobs.errors import ModelFileError
from fl_jobs.messages import TensorMap
from fl_jobs.tensor_files import read_tensors

JOURNAL = "journal.jsonl"
LINES_MAX = 500


def round_file(number: int) -> str:
    """Return the name of a round's aggregate in the run's folder."""
    return f"r{number:04d}.safetensors"


class RunFolder:
    """``rounds/<run id>/`` of the server. Safe to read from the thread that answers the portal."""

    def __init__(self, folder: Path, *, epoch: int) -> None:
        """Open or create the folder; a half-written last journal line (a crash) is cut off."""
        self.folder, self._epoch, self._lock = folder, epoch, threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        raw = (folder / JOURNAL).read_bytes() if (folder / JOURNAL).exists() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        self._journal = os.open(folder / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._journal, len(whole))
        self._lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def append(self, record: dict[str, Any]) -> None:
        """Write one line with time and epoch, and return when it is on disk."""
        line = {**record, "epoch": self._epoch, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        data = json.dumps(line, sort_keys=True, allow_nan=False).encode() + b"\n"
        with self._lock:
            os.write(self._journal, data)
            os.fsync(self._journal)
            self._lines.append(line)

    def lines(self, since: int) -> dict[str, Any]:
        """Return at most 500 lines from number ``since`` (the first is 0) and the number to ask for next."""
        with self._lock:
            chosen = self._lines[max(since, 0) : max(since, 0) + LINES_MAX]
        return {"lines": chosen, "next": max(since, 0) + len(chosen)}

    def all_lines(self) -> list[dict[str, Any]]:
        """Return the whole journal, of earlier epochs too."""
        with self._lock:
            return list(self._lines)

    def read_round(self, number: int) -> TensorMap:
        """Return the aggregate of a committed round. Raises ModelFileError when it is missing or altered."""
        name = round_file(number)
        with self._lock:
            digests = [line["file_sha256"] for line in self._lines if line.get("file") == name]
        if not digests:
            raise ModelFileError(f"Round {number} was never committed here; start from round 1.")
        return read_tensors(self.folder / name, sha256=digests[-1])

    def close(self) -> None:
        """Close the journal."""
        os.close(self._journal)
