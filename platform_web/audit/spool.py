"""The second sink: entries of refusals that the database could not take, one durable file each.

Written when the first sink is down and replayed when it is back. An entry keeps the id and the time of its
refusal, so a replay that was cut short and begins again adds nothing twice. Nothing is *done* on the strength
of the spool: see docs/adr/0019.
"""

import json
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from compliance.canonical import CanonicalError
from compliance.envelope import read_envelope
from compliance.events import check_event
from platform_web.audit import services
from platform_web.audit.errors import AuditError
from platform_web.audit.models import AuditEvent

MOST = 5_000  # files; a stranger who knocks during an outage must not fill the disk
UNFINISHED_S = 60.0  # a file that is so old is no longer being written
_KEYS = frozenset({"v", "id", "ts", "log", "site", "actor", "act", "out", "obj", "job", "rnd", "data"})
log = logging.getLogger(__name__)


def folder() -> Path:
    return Path(settings.CONSILIUM_HOME) / "audit-spool"


def keep(*, act: str, out: services.Outcome, data: dict[str, Any]) -> bool:
    """Whether the entry is safe on disk; if not, the process's log has a line. The act is refused anyway."""
    try:
        leaf = services.draft(act=act, out=out, data=data)
        place = folder()
        place.mkdir(mode=0o700, exist_ok=True)
        if len(os.listdir(place)) >= MOST:
            log.error("the audit spool is full; refusals are counted in this log only")
            return False
        _write(place, f"{json.loads(leaf)['id']}.json", leaf)
    except OSError as error:
        log.error("the audit spool cannot be written: %s", error.strerror)  # noqa: TRY400 - said in full
        return False
    return True


def _write(place: Path, name: str, leaf: bytes) -> None:
    """Whole or not at all: a file of its own, fsynced, then renamed, then the folder. Raises OSError."""
    unfinished = place / f".{name}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:  # writes on after a short write, unlike os.write
            file.write(leaf)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(place / name)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    directory = os.open(place, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def replay() -> int:
    """Move what waits into the log: how many were added. Each is one transaction, then its file goes.

    What is no entry, or cannot be read, is said and left where it is; it does not keep the others waiting.
    Raises django.db.Error: the database went away again; the next call goes on.
    """
    added = 0
    _adopt_unfinished()
    for path in sorted(folder().glob("[0-9a-f]*.json")):
        try:
            leaf = path.read_bytes()
            added += _insert_once(path.stem, leaf)
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # another worker was faster
        except (CanonicalError, AuditError) as error:
            log.error("%s in the audit spool is no entry (%s); remove it by hand", path.name, error)  # noqa: TRY400
        except OSError as error:
            log.error("%s in the audit spool cannot be used: %s", path.name, error.strerror)  # noqa: TRY400
    return added


def _insert_once(name: str, leaf: bytes) -> bool:
    """False when the log has it already. Raises CanonicalError, AuditError for what is none."""
    if read_envelope(leaf).id != name:
        raise AuditError("its name is not its id")
    envelope: dict[str, Any] = json.loads(leaf)
    if set(envelope) != _KEYS or not isinstance(envelope["data"], dict):
        raise AuditError("it has other fields than a refusal")
    check_event(str(envelope["act"]), envelope["data"])
    try:
        with transaction.atomic():
            if AuditEvent.objects.filter(event_id=uuid.UUID(name)).exists():
                return False
            services.insert(leaf)
    except IntegrityError:  # another worker was faster
        return False
    except (KeyError, TypeError, ValueError) as error:
        raise AuditError("a field of it has another form") from error
    return True


def _adopt_unfinished() -> None:
    """What a process that was killed left: a whole entry joins the others, a torn one was never kept."""
    for path in sorted(folder().glob(".[0-9a-f]*.json")):
        try:
            if time.time() - path.stat().st_mtime < UNFINISHED_S:
                continue
            name = path.name.removeprefix(".")
            if read_envelope(path.read_bytes()).id == name.removesuffix(".json"):
                path.rename(path.with_name(name))
        except FileNotFoundError:
            continue
        except CanonicalError:
            log.warning("%s in the audit spool was never finished; it is removed", path.name)
            path.unlink(missing_ok=True)
        except OSError as error:
            log.error("%s in the audit spool cannot be used: %s", path.name, error.strerror)  # noqa: TRY400
