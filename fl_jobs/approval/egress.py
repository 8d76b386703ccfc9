"""The egress meter: one line for each result that the site's filter let out, ``egress/egress.jsonl``.

A line is durable before the result leaves, so the meter may name a result that a crash then kept here, never
the other way round. Files are rotated at 8 MiB and eight old ones are kept.
"""

import fcntl
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FOLDER: Final = "egress"
CURRENT: Final = "egress.jsonl"
ROTATE_BYTES: Final = 8 * 2**20
OLD_FILES: Final = 8
MAX_LINE_BYTES: Final = 2**20
NAMES_KEPT: Final = 2000


class EgressLine(BaseModel):
    """One result. ``number_bytes``: of its tensors or masked vector; the rest is message and description.

    ``sha256``: of the masked vector's bytes, or of the tensors' in the order of their names, as they left.
    ``masked``: the numbers are under masks; ``tensors`` are then those that the vector sums up.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    at: str
    run_id: str
    job: str
    task: str
    round: int
    tensors: Annotated[tuple[str, ...], Field(max_length=NAMES_KEPT)]
    tensor_count: int
    masked: bool
    number_bytes: int
    sha256: str = ""  # lines of former versions have none
    message_bytes: int
    text_bytes: int


def append_line(home: Path, line: EgressLine) -> None:
    """Append durably, whichever job process asks. Raises OSError: then the result must stay."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _rotate(folder)
        descriptor = os.open(folder / CURRENT, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = (b"\n" if torn else b"") + line.model_dump_json().encode() + b"\n"
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_lines(home: Path, run_id: str | None = None) -> Iterator[EgressLine]:
    """All lines that are whole, oldest first; a line that a crash tore is passed over."""
    for path in _files(home / FOLDER):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        with file:
            while raw := file.readline(MAX_LINE_BYTES):
                try:
                    line = EgressLine.model_validate_json(raw)
                except ValidationError:
                    continue
                if run_id is None or line.run_id == run_id:
                    yield line


def _files(folder: Path) -> list[Path]:
    return [*(folder / f"egress.{age}.jsonl" for age in range(OLD_FILES, 0, -1)), folder / CURRENT]


def _rotate(folder: Path) -> None:
    current = folder / CURRENT
    if not current.exists() or current.stat().st_size < ROTATE_BYTES:
        return
    files = _files(folder)
    for older, newer in pairwise(files):
        if newer.exists():
            newer.replace(older)
