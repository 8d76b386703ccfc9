"""What would grow for ever: folders of ended jobs and NVFlare's audit file; old requests are put aside.

A job's folder holds its configuration and logs; models lie in ``personal/`` and are not touched here. Logs of
the agent's own children are capped by :mod:`site_kits.agent.children`, NVFlare's rotate by themselves.
"""

import re
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from fl_jobs.approval.egress import read_lines
from fl_jobs.approval.records import REQUESTS, RUN_ID
from site_kits.agent.requests import list_requests
from site_kits.site_home import SiteHome

KEPT_DAYS = 14  # a running job writes its log every round
QUIET_DAYS = 90  # a run that was interrupted may go on for weeks
OLD = "old"
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


def put_old_requests_aside(home: SiteHome, *, now: float) -> list[str]:
    """Move requests of runs without any event for ``QUIET_DAYS`` to ``requests/old``; returns their run ids.

    They are the site's record of what it approved, so nothing is deleted. Each study's last approved request
    stays: the next one is compared with it. What the portal still asks it brings again.
    """
    quiet_since = now - QUIET_DAYS * _DAY_S
    active = {line.run_id for line in read_lines(home.root) if _moment(line.at) > quiet_since}
    last: dict[str, str] = {}
    for one in list_requests(home):  # the newest first
        if one.decision is not None and one.decision.approve:
            last.setdefault(one.request.spec.study.slug, one.request.run_id)
    moved = []
    for folder in sorted((home.root / REQUESTS).glob("*-*-*-*-*")):
        kept = folder.name in active or folder.name in last.values() or folder.is_symlink()
        if kept or RUN_ID.fullmatch(folder.name) is None or _last_change(folder) > quiet_since:
            continue
        aside = home.root / REQUESTS / OLD / folder.name
        with suppress(OSError):  # was put aside once before and asked again: both records stay
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            folder.rename(aside)
            moved.append(folder.name)
    return moved


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:  # a line of another version: the run counts as active
        return float("inf")


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
