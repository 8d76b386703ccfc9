"""Turns a commit into files and a journal record, and hands the results over at the end."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from fl_jobs.flare.journal import JOURNAL, RunFolder, round_file
from fl_jobs.messages import Commit, TaskOrder, TensorMap
from fl_jobs.packaging.spec import Arm, RunSpec
from fl_jobs.tensor_files import encode_tensors, shared_part

ARTIFACTS = Path("artifacts") / "sha256"
RESULTS = "consilium"  # in the job's run folder, hence in download_job_result's workspace/


def commit_record(kept: RunFolder, spec: RunSpec, order: TaskOrder, commit: Commit) -> dict[str, Any]:
    """Write what ``order`` produced and return the journal record that makes it count.

    A round's record names its file, the file's digest and, under ``aggregate_sha256``, the shared part of
    each arm as the registry and the sites know it. ``finish`` puts the chosen shared parts under artifacts/.
    """
    record = dict(commit.record)
    if order.name == "finish":
        parts = _shared_parts(spec, order.tensors)
        digests = {arm: hashlib.sha256(data).hexdigest() for arm, data in parts.items()}
        for arm, data in parts.items():
            kept.write_artifact(ARTIFACTS / digests[arm], data)
        return {**record, "aggregate_sha256": digests}
    if not commit.tensors:
        return record
    if order.name == "train":
        record["file"] = round_file(order.round_number)
        parts = _shared_parts(spec, commit.tensors)
        record["aggregate_sha256"] = {arm: hashlib.sha256(data).hexdigest() for arm, data in parts.items()}
    else:
        record["file"] = f"phase-{order.header.get('arm')}-{order.header.get('phase')}.safetensors"
    record["file_sha256"] = kept.write_tensors(record["file"], commit.tensors)
    return record


def export_results(kept: RunFolder, run_folder: Path) -> None:
    """Copy journal and chosen shared parts into the job's run folder, which download_job_result brings."""
    target = run_folder / RESULTS
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept.folder / JOURNAL, target / JOURNAL)
    if (kept.folder / ARTIFACTS).is_dir():
        shutil.copytree(kept.folder / ARTIFACTS, target / ARTIFACTS, dirs_exist_ok=True)


def _shared_parts(spec: RunSpec, tensors: TensorMap) -> dict[Arm, bytes]:
    present = {spec.shared()[name].arm for name in tensors if name in spec.shared()}
    return {arm: encode_tensors(shared_part(spec, arm, tensors)) for arm in sorted(present)}
