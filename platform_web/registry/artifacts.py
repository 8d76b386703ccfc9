"""Shared parts on the portal's disk, each under its own SHA-256. Nothing personal ever arrives here."""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from django.utils.translation import gettext as _

from platform_web.federation import places
from platform_web.outbox.errors import TransientError
from platform_web.registry.errors import CollectionError, MissingPartError

MAX_FILE_BYTES = 2_000_000_000
CHUNK_BYTES = 1 << 20


def store_shared_parts(folder: Path, wanted: Iterable[str]) -> None:
    """Copy the files of ``folder`` named by a wanted digest to the artifacts; each whole or not at all.

    Raises MissingPartError when one is missing, CollectionError when one is altered or too large.
    """
    for digest in sorted(set(wanted)):
        if is_stored(digest):
            continue
        source = next(
            (path for path in folder.rglob(digest) if path.is_file() and not path.is_symlink()), None
        )
        if source is None:
            raise MissingPartError(
                _("The result of the run lacks the shared part %(digest)s…. Nothing was registered.")
                % {"digest": digest[:12]}
            )
        if _sha256_of(source) != digest:
            raise CollectionError(
                _(
                    "The shared part %(digest)s… was altered on its way. Nothing was registered; start the "
                    "run again."
                )
                % {"digest": digest[:12]}
            )
        if source.stat().st_size > MAX_FILE_BYTES:
            raise CollectionError(
                _("A file of the result is larger than 2 GB. Use a smaller model and start the run again.")
            )
        _store(source, digest)


def is_stored(digest: str) -> bool:
    """Whether the store holds this part whole; the file is hashed again."""
    path = places.artifact(digest)
    return path.is_file() and _sha256_of(path) == digest


def _sha256_of(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _store(source: Path, digest: str) -> None:
    """Write, fsync, rename, fsync the folder; the bytes written are hashed again on their way."""
    target = places.artifact(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", dir=target.parent)
    scratch, seen = Path(name), hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as out, source.open("rb") as data:
            while chunk := data.read(CHUNK_BYTES):
                seen.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if seen.hexdigest() != digest:
            raise TransientError(_("A result file changed while it was read; it is fetched again."))
        scratch.replace(target)
    except OSError as error:
        raise TransientError(
            _("A shared part cannot be written below %(folder)s: %(reason)s. Free space there.")
            % {"folder": target.parent, "reason": error.strerror}
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
