"""What this site did not start or let out, and why: ``state/refused_jobs.json``, for agent and portal."""

import contextlib
import fcntl
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fl_jobs.tensor_files import write_bytes

REFUSED: Final = Path("state") / "refused_jobs.json"
KEPT: Final = 50


def note_refusal(home: Path, *, job_id: str, run_id: str, sentence: str) -> None:
    """Keep the newest refusals, each once with its last time. A full disk is no fault here."""
    entry = {"job": job_id[:64], "run": run_id[:64], "sentence": sentence[:2000]}
    with contextlib.suppress(OSError):
        (home / REFUSED.parent).mkdir(parents=True, exist_ok=True)
        with (home / "state" / "refused_jobs.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = [old for old in read_refusals(home) if {key: old.get(key) for key in entry} != entry]
            at = datetime.now(UTC).isoformat(timespec="seconds")
            content = json.dumps([*others, {**entry, "at": at}][-KEPT:], ensure_ascii=False, indent=1)
            write_bytes(home / REFUSED, content.encode())


def read_refusals(home: Path) -> list[dict[str, Any]]:
    """The newest last; empty when there are none or the file cannot be read."""
    try:
        found = json.loads((home / REFUSED).read_bytes())
    except (OSError, ValueError):
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
