"""Raw tensors on disk: safetensors with float32 only, written whole or not at all, read with their digest.

The same tensors give the same bytes on every machine, so a digest names a model part everywhere.
"""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fl_jobs.errors import ModelFileError
from fl_jobs.messages import TensorMap
from fl_jobs.packaging.spec import Arm, RunSpec

MAX_FILE_BYTES = 2 * 2**30
MAX_TENSORS = 100_000


def encode_tensors(tensors: TensorMap, salt: str | None = None) -> bytes:
    """The file's bytes; they depend on names, shapes, values and salt only (safetensors sorts by name)."""
    ready: dict[str, NDArray[np.float32]] = {}
    for name in sorted(tensors):
        ready[name] = np.ascontiguousarray(tensors[name], dtype="<f4").reshape(np.shape(tensors[name]))
    encoded: bytes = save(ready, metadata=None if salt is None else {"salt": salt})
    return encoded


def decode_tensors(data: bytes, *, source: str) -> TensorMap:
    """Tensors of ``data``; ``source`` names it in errors. Raises ModelFileError."""
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{source} is not a readable model file. Fetch or train it again.") from error
    if len(tensors) > MAX_TENSORS or any(value.dtype != np.float32 for value in tensors.values()):
        raise ModelFileError(f"{source} holds something else than 32-bit numbers. Fetch or train it again.")
    return tensors


def write_tensors(path: Path, tensors: TensorMap, *, mode: int = 0o644, salt: str | None = None) -> str:
    """Write ``tensors`` to ``path`` as :func:`write_bytes` does; return the SHA-256 in hex."""
    data = encode_tensors(tensors, salt)
    write_bytes(path, data, mode=mode)
    return hashlib.sha256(data).hexdigest()


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` whole or not at all: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_tensors(path: Path, *, sha256: str | None = None, max_bytes: int = MAX_FILE_BYTES) -> TensorMap:
    """Read a file written by :func:`write_tensors`.

    Raises ModelFileError when it is missing, too large, not of digest ``sha256`` or unreadable.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ModelFileError(f"The model file {path.name} has {size} bytes; {max_bytes} are allowed.")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"The model file {path} cannot be read. Fetch or train it again.") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ModelFileError(
            f"The model file {path.name} was altered: its SHA-256 is not {sha256[:12]}…. "
            "Fetch or train it again."
        )
    return decode_tensors(data, source=f"The model file {path.name}")


def shared_part(spec: RunSpec, arm: Arm, aggregate: TensorMap) -> TensorMap:
    """The shared part of one arm's model: its tensors of every round, by their own names.

    This is what lies under ``artifacts/sha256/``; constants of one-off phases are not part of it.
    Raises ModelFileError when ``aggregate`` lacks one.
    """
    wanted = {wire: tensor.name for wire, tensor in spec.shared().items() if tensor.arm == arm}
    if missing := sorted(wanted.keys() - aggregate.keys()):
        raise ModelFileError(f"The aggregate lacks {missing[0]}. Start the run again.")
    return {name: aggregate[wire] for wire, name in wanted.items()}
