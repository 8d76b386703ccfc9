"""The files of a job at a site: exactly those our own packaging renders for the approved run, nothing else.

A site's app holds two files, ``config/config_fed_client.json`` and ``config/run_spec.json``. Beside them
NVFlare's submission leaves signature files, which NVFlare has verified and never loads as anything else.
"""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fl_jobs.approval.records import read_plain
from fl_jobs.errors import NotApprovedError
from fl_jobs.packaging.job import SPEC_FILE, client_config_bytes
from fl_jobs.packaging.spec import MAX_SPEC_BYTES, RunSpec

CONFIG: Final = "config"
CLIENT_FILE: Final = "config_fed_client.json"
SIGNATURES: Final = frozenset({".__nvfl_sig.json", ".__nvfl_submitter.crt"})
MAX_CONFIG_BYTES: Final = 65_536
MAX_ENTRIES: Final = 32


@dataclass(frozen=True)
class NamedRun:
    """What the client configuration on disk says it is; nothing is proven yet."""

    run_id: str
    run_digest: str
    epoch: int


def named_run(app_folder: Path) -> NamedRun:
    """Read the three facts a client configuration may vary in. Raises NotApprovedError."""
    content = _read(app_folder / CONFIG / CLIENT_FILE, MAX_CONFIG_BYTES)
    try:
        arguments = json.loads(content)["executors"][0]["executor"]["args"]
        run = NamedRun(arguments["run_id"], arguments["run_digest"], arguments["epoch"])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _different(CLIENT_FILE) from error
    if type(run.run_id) is not str or type(run.run_digest) is not str or type(run.epoch) is not int:
        raise _different(CLIENT_FILE)
    if not 1 <= run.epoch < 2**31:
        raise _different(CLIENT_FILE)
    return run


def verify_files(app_folder: Path, spec: RunSpec, run: NamedRun) -> None:
    """Raise NotApprovedError naming the first file that is not the approved run's."""
    if run.run_digest != spec.digest():
        raise NotApprovedError(
            f"The job of run {run.run_id[:8]} has another digest than the one this site approved; nothing "
            "was started. Start a new run, which asks for a new approval."
        )
    _only(app_folder, {CONFIG: stat.S_ISDIR})
    _only(app_folder / CONFIG, {CLIENT_FILE: stat.S_ISREG, SPEC_FILE: stat.S_ISREG})
    if _read(app_folder / CONFIG / SPEC_FILE, MAX_SPEC_BYTES) != spec.canonical():
        raise _different(SPEC_FILE)
    expected = client_config_bytes(run_id=run.run_id, run_digest=run.run_digest, epoch=run.epoch)
    if _read(app_folder / CONFIG / CLIENT_FILE, MAX_CONFIG_BYTES) != expected:
        raise _different(CLIENT_FILE)


def _only(folder: Path, kinds: dict[str, object]) -> None:
    """Names and kinds in one folder; links are never followed."""
    wanted = {**kinds, **dict.fromkeys(SIGNATURES, stat.S_ISREG)}
    found = set()
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                is_kind = wanted.get(entry.name)
                mode = entry.stat(follow_symlinks=False).st_mode
                if count >= MAX_ENTRIES or not callable(is_kind) or not is_kind(mode):
                    raise NotApprovedError(
                        f"The job holds {entry.name[:80]!r}, which is no part of the approved run; nothing "
                        "was started. Submit runs through the portal."
                    )
                found.add(entry.name)
    except OSError as error:
        raise NotApprovedError(
            f"The job's files cannot be read ({error.strerror}); nothing was started."
        ) from error
    if missing := sorted(set(kinds) - found):
        raise _different(missing[0])


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_plain(path, limit)
    except OSError as error:
        raise _different(path.name) from error


def _different(name: str) -> NotApprovedError:
    return NotApprovedError(
        f"{name} of the job is not, byte by byte, what this site approved; nothing was started. Submit runs "
        "through the portal."
    )
