"""Trained weights that a site keeps itself: found by digest, read whole, verified before they are parsed.

``<site home>/weights/<sha256>.safetensors`` is one file. ``<site home>/weights/<sha256>/`` is a checkpoint
of ``transformers``: its digest is SHA-256 over the canonical JSON of its three files' digests by name.
``python -m fl_jobs.weights PATH`` prints the digest of either. Torch-free; nothing here unpickles anything.
"""

import hashlib
import stat
import sys
from pathlib import Path

from fl_jobs.errors import FLJobError, ModelFileError, SpecError
from fl_jobs.packaging.spec import canonical_json

MAX_WEIGHTS_BYTES = 4 * 2**30
MAX_JSON_BYTES = 64 * 2**20
FOLDER = "weights"
CHECKPOINT = ("config.json", "model.safetensors", "tokenizer.json")


def digest_of(weights: str) -> str:
    """The digest in a specification's ``weights``, which may go on with a name."""
    return weights.partition(" ")[0]


def read_weights(folder: Path, weights: str) -> bytes:
    """The bytes of a safetensors file. Raises SpecError when it is not there, ModelFileError if altered."""
    digest = digest_of(weights)
    path = folder / f"{digest}.safetensors"
    if not path.is_file():
        raise _missing(weights, f"{FOLDER}/{digest}.safetensors")
    data = _read(path, MAX_WEIGHTS_BYTES)
    if hashlib.sha256(data).hexdigest() != digest:
        raise ModelFileError(f"{path} was altered: its SHA-256 is another. Copy the file again.")
    return data


def read_checkpoint(folder: Path, weights: str) -> dict[str, bytes]:
    """The three files of a checkpoint by name. Raises SpecError or ModelFileError as for one file."""
    digest = digest_of(weights)
    path = folder / digest
    if not path.is_dir():
        raise _missing(weights, f"{FOLDER}/{digest}/, a folder with {', '.join(CHECKPOINT)}")
    files = _read_folder(path)
    if _folder_digest(files) != digest:
        raise ModelFileError(f"A file of {path} was altered: the folder's digest is another. Copy it again.")
    return files


def digest_path(path: Path) -> str:
    """The digest by which a specification names a file or a checkpoint's folder. Raises ModelFileError."""
    if _is_folder(path):
        return _folder_digest(_read_folder(path))
    return hashlib.sha256(_read(path, MAX_WEIGHTS_BYTES)).hexdigest()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, a folder without rights: reading it says which
        return False


def _read_folder(path: Path) -> dict[str, bytes]:
    limits = {name: MAX_JSON_BYTES if name.endswith(".json") else MAX_WEIGHTS_BYTES for name in CHECKPOINT}
    return {name: _read(path / name, limit) for name, limit in limits.items()}


def _folder_digest(files: dict[str, bytes]) -> str:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return hashlib.sha256(canonical_json(digests)).hexdigest()


def _read(path: Path, limit: int) -> bytes:
    """At most ``limit`` bytes, looked at before they are read: the file may be anything."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"{path} is not a file. Put the file there.")
        size = status.st_size
        if size > limit:
            raise ModelFileError(f"{path} has {size} bytes; {limit} are allowed. Choose a smaller model.")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}). Put the file there.") from error
    if len(data) > limit:
        raise ModelFileError(f"{path} grew while it was read. Copy it again.")
    return data


def _missing(weights: str, wanted: str) -> SpecError:
    """Says nothing of the site but that the file is not there: the sentence reaches the portal."""
    return SpecError(
        f"A site lacks the trained weights “{weights}” of this run. Its operator puts them at {wanted}, "
        "below the site's folder; then start again."
    )


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.stderr.write("Use: python -m fl_jobs.weights FILE.safetensors | CHECKPOINT_FOLDER\n")
        return 2
    path = Path(sys.argv[1])
    try:
        sys.stdout.write(f"{digest_path(path)}  {path.name}\n")
    except FLJobError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
