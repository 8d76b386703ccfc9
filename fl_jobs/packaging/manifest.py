"""What a job folder holds, by digest: what was submitted can be compared with what was meant."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from fl_jobs.errors import SpecError


class JobManifest(BaseModel):
    """One job of a run. ``files`` maps each path in the job folder to its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    run_digest: str
    epoch: int = Field(ge=1)
    start_round: int = Field(ge=1)
    sites: tuple[str, ...]
    asked_by: str
    files: dict[str, str]


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below ``folder`` by relative path."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def verify_job(folder: Path, manifest: JobManifest) -> None:
    """Raise SpecError unless ``folder`` holds exactly the files of ``manifest``."""
    found = file_digests(folder)
    different = sorted(name for name in found | manifest.files if found.get(name) != manifest.files.get(name))
    if different:
        raise SpecError(f"The job folder differs from its manifest in {different[0]}; write the job again.")
