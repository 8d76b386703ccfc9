"""A site's personal parts on its own disk: ``personal/<study>/<algorithm>/<run>/<arm>/r<NNNN>.safetensors``.

Nothing of this folder ever leaves the site. Beside each file stands a ``.json`` with its digest; it is
written last, so a part without it was never finished and is not used.
"""

import hashlib
import json
import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from fl_jobs.errors import ModelFileError
from fl_jobs.messages import TaskOrder, TensorMap
from fl_jobs.packaging.spec import RunSpec, canonical_json, run_folder_name
from fl_jobs.tensor_files import encode_tensors, read_tensors, write_bytes, write_tensors

_NAME = re.compile(r"r(\d{4,})\.json")


class PersonalStore:
    """The personal parts of one run."""

    def __init__(self, site_home: Path, spec: RunSpec, run_id: str) -> None:
        self._digest = spec.digest()
        self._artifacts = site_home / "artifacts" / "sha256"
        name = run_folder_name(self._digest, run_id)
        self.folder = site_home / "personal" / spec.study.slug / spec.algorithm / name
        spec_file = self.folder / "run_spec.json"
        if not spec_file.exists() or spec_file.read_bytes() != spec.canonical():
            write_bytes(spec_file, spec.canonical(), mode=0o600)

    def write(self, arm: str, number: int, tensors: TensorMap) -> str:
        """Keep the personal part of ``arm`` after round ``number``; return its SHA-256."""
        path = self._path(arm, number)
        path.with_suffix(".json").unlink(missing_ok=True)
        sha256 = write_tensors(path, tensors, mode=0o600)
        card = {"arm": arm, "round": number, "run_digest": self._digest, "sha256": sha256}
        write_bytes(path.with_suffix(".json"), canonical_json(card), mode=0o600)
        return sha256

    def read_newest(self, arm: str, up_to: int) -> tuple[int, TensorMap] | None:
        """The newest part of ``arm`` up to round ``up_to``, or None. Raises ModelFileError when altered."""
        numbers = [number for number in self._numbers(arm) if number <= up_to]
        if not numbers:
            return None
        number = max(numbers)
        return number, read_tensors(self._path(arm, number), sha256=self.sha256(arm, number))

    def has(self, arm: str, number: int) -> bool:
        return number in self._numbers(arm)

    def sha256(self, arm: str, number: int) -> str:
        """The digest noted when the part was written. Raises ModelFileError."""
        path = self._path(arm, number).with_suffix(".json")
        try:
            card = json.loads(path.read_bytes())
            matches = card["run_digest"] == self._digest
            sha256 = str(card["sha256"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{path} cannot be read. Remove it; the site then starts afresh.") from error
        if not matches:
            raise ModelFileError(f"{path} belongs to another run. Remove it; the site then starts afresh.")
        return sha256

    def prune(self, arm: str, keep: AbstractSet[int]) -> None:
        """Remove the parts of all rounds but ``keep``."""
        for number in self._numbers(arm):
            if number not in keep:
                self._path(arm, number).with_suffix(".json").unlink(missing_ok=True)
                self._path(arm, number).unlink(missing_ok=True)

    def write_shared(self, tensors: TensorMap) -> str:
        """Put a shared part under ``artifacts/sha256/``; return its SHA-256."""
        data = encode_tensors(tensors)
        sha256 = hashlib.sha256(data).hexdigest()
        write_bytes(self._artifacts / sha256, data)
        return sha256

    def write_answer(self, order: TaskOrder, answer: dict[str, Any]) -> None:
        """Note the answer to a task that is done once, under the version (header and tensors) it was for."""
        write_bytes(self._answer_path(order), canonical_json(answer), mode=0o600)

    def read_answer(self, order: TaskOrder) -> dict[str, Any] | None:
        """The answer noted before, if the model files it names are still there. Raises ModelFileError."""
        path = self._answer_path(order)
        if not path.exists():
            return None
        try:
            answer: dict[str, Any] = json.loads(path.read_bytes())
            files = answer["report"]["files"].items()
            is_whole = all(
                self.has(a, f["round"]) and self.sha256(a, f["round"]) == f["personal_sha256"]
                for a, f in files
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFileError(f"{path} cannot be read. Remove it; the task is then done anew.") from error
        return answer if is_whole else None

    def _answer_path(self, order: TaskOrder) -> Path:
        version = order.digest(self._digest) + hashlib.sha256(encode_tensors(order.tensors)).digest()
        return self.folder / "answers" / f"{order.name}-{hashlib.sha256(version).hexdigest()[:16]}.json"

    def _path(self, arm: str, number: int) -> Path:
        return self.folder / arm / f"r{number:04d}.safetensors"

    def _numbers(self, arm: str) -> list[int]:
        folder = self.folder / arm
        found = [_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
        return [int(match.group(1)) for match in found if match]
