"""The second sink: entries of refusals that the database could not take, one durable file each.

Written when the first sink is down and replayed when it is back. An entry keeps the id and the time of its
refusal, so a replay that was cut short and begins again adds nothing twice. Nothing is *done* on the strength
of the spool: see docs/adr/0019.
"""

import json
import logging
import os
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from compliance.canonical import CanonicalError
from platform_web.audit import services
from platform_web.audit.errors import AuditError
from platform_web.audit.models import AuditEvent

MOST = 5_000  # files; a stranger who knocks during an outage must not fill the disk
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
    """Whole or not at all: a file of its own, fsynced, then renamed, then the folder fsynced."""
    unfinished = place / f".{name}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, leaf)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.rename(place / name)
    directory = os.open(place, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def replay() -> int:
    """Move what waits into the log: how many were added. Each is one transaction, then its file goes."""
    added = 0
    for path in sorted(folder().glob("[0-9a-f]*.json")):
        try:
            with transaction.atomic():
                if not AuditEvent.objects.filter(event_id=uuid.UUID(path.stem)).exists():
                    services.insert(path.read_bytes())
                    added += 1
        except (AuditError, CanonicalError, ValueError):
            log.error("%s in the audit spool is no entry; remove it by hand", path.name)  # noqa: TRY400
            continue
        path.unlink(missing_ok=True)
    return added
