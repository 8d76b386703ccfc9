"""What NVFlare's client leaves behind and never removes: the folders of ended jobs, and its audit file.

A job's folder holds its configuration and logs; models lie in ``personal/`` and are not touched here. Logs of
the agent's own children are capped by :mod:`site_kits.agent.children`, NVFlare's rotate by themselves.
"""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from site_kits.site_home import SiteHome

KEPT_DAYS = 14  # a running job writes its log every round
AUDIT_LIMIT_BYTES = 8 * 2**20
_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DAY_S = 86_400.0


def prune_job_folders(home: SiteHome, *, now: float) -> list[str]:
    """Remove job folders in which nothing changed for ``KEPT_DAYS``; returns their names.

    ``now`` in seconds since the epoch. A folder that cannot be removed is left for the next time.
    """
    removed = []
    for folder in sorted(home.flare.glob("*-*-*-*-*")):
        if _JOB.fullmatch(folder.name) is None or folder.is_symlink() or not folder.is_dir():
            continue
        if now - _last_change(folder) > KEPT_DAYS * _DAY_S:
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                removed.append(folder.name)
    return removed


def rotate_audit(home: SiteHome) -> None:
    """Put NVFlare's audit file aside when it is large. Only while no client runs: it keeps the file open."""
    path = home.flare / "audit.log"
    with suppress(OSError):
        if path.stat().st_size > AUDIT_LIMIT_BYTES:
            path.replace(path.with_name("audit.log.1"))


def _last_change(folder: Path) -> float:
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # removed while we look
            newest = max(newest, path.lstat().st_mtime)
    return newest
