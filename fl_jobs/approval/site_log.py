"""The site's own log: what ran here, what left, what was served. It never leaves the site; its heads do.

One SQLite file a year below ``state/log/``, written by agent, console, prediction and job processes. Who
cannot write an entry does not do what it would say: no prediction is shown, no result leaves.
"""

import functools
import hashlib
import hmac
import os
import secrets
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from compliance.canonical import CanonicalError, canonical_bytes
from compliance.sqlite_log import LogUnavailableError, SqliteLog
from fl_jobs.errors import SiteLogError

FOLDER: Final = Path("state") / "log"
ACTS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "run.approved": frozenset({"by", "policy"}),
        "run.refused": frozenset({"by", "policy"}),
        "question.asked": frozenset({"question", "text"}),  # text: the site's pseudonym of it, no word
        "question.answered": frozenset({"question", "text"}),
        "run.started": frozenset({"epoch", "masked"}),
        "run.start_refused": frozenset({"epoch", "reason"}),
        "update.sent": frozenset({"task", "sha256", "number_bytes", "masked"}),
        "prediction.served": frozenset({"subject", "model", "bucket"}),
        "dataset.registered": frozenset({"rows"}),
        "dataset.withdrawn": frozenset({"because"}),
        "certificate.received": frozenset({"serial", "not_after"}),
        "witness.contradicted": frozenset({"evidence"}),
        "portal.checkpoint": frozenset({"note"}),
        "operator.signed_in": frozenset(),
        "operator.sign_in_refused": frozenset(),
        "operator.signed_out": frozenset(),
        "passphrase.changed": frozenset(),
        "peer.confirmed": frozenset({"key"}),
        "peer.unconfirmed": frozenset(),
        "key.made": frozenset({"key"}),
    }
)
Scalar = str | int | bool | None


def record(
    home: Path, act: str, *, run: str = "", rnd: int | None = None, obj: str = "", **data: Scalar
) -> None:
    """Write one entry, durable when this returns. Raises SiteLogError: then do not go on."""
    record_all(home, [(act, run, rnd, obj, data)])


def record_all(home: Path, entries: Iterable[tuple[str, str, int | None, str, Mapping[str, Scalar]]]) -> None:
    """Several entries (act, run, round, object, data), all or none. Raises SiteLogError."""
    now = datetime.now(UTC)
    try:
        rows = [_entry(now, *entry) for entry in entries]
        open_log(home, now.year).extend(rows)
    except CanonicalError as error:
        raise SiteLogError(f"The site's log takes no such entry: {error}") from error
    except LogUnavailableError as error:
        raise SiteLogError(
            f"The site's own log cannot be written ({error}), so nothing was sent or shown. Make room on its "
            "disk, or restore state/log from your backup."
        ) from error


def open_log(home: Path, year: int) -> SqliteLog:
    """The file of a year, opened once in a process. Raises LogUnavailableError."""
    return _opened(home / FOLDER / f"{year}.sqlite3", os.getpid())


def pseudonym(home: Path, value: bytes) -> str:
    """HMAC-SHA-256 under a key that stays here: this site can find a case again, nobody else can name it.

    Raises SiteLogError when the key can neither be read nor made.
    """
    try:
        return hmac.new(_pseudonym_key(home / FOLDER), value, hashlib.sha256).hexdigest()[:32]
    except OSError as error:
        raise SiteLogError(
            f"The key of the site's log cannot be used ({error.strerror}). Nothing was shown."
        ) from error


@functools.lru_cache(maxsize=8)
def _opened(path: Path, _process: int) -> SqliteLog:
    """A child that was forked must not use its parent's connection: hence the process's number."""
    return SqliteLog(path)


def _pseudonym_key(folder: Path) -> bytes:
    path = folder / "subject.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".subject.{secrets.token_hex(6)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # never over the key of another process
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def _entry(
    now: datetime, act: str, run: str, rnd: int | None, obj: str, data: Mapping[str, Scalar]
) -> tuple[str, bytes]:
    if act not in ACTS or set(data) - ACTS[act]:
        raise CanonicalError(f"{act} is not declared, or may not carry {', '.join(sorted(data))}.")
    entry_id = str(uuid.uuid4())
    stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    envelope = {
        "v": 1,
        "id": entry_id,
        "ts": stamp,
        "act": act,
        "job": run,
        "rnd": rnd,
        "obj": obj,
        "data": dict(data),
    }
    return entry_id, canonical_bytes(envelope)
