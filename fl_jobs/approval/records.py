"""The two files of a run at a site: ``request.json`` is what was asked, ``decision.json`` what was decided.

They lie in ``requests/<run id>/`` of the site's home, written by the agent alone.
"""

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from compliance.policy import Policy, RequestFacts
from fl_jobs.errors import NotApprovedError
from fl_jobs.masking.plans import vector_sizes
from fl_jobs.packaging.spec import MAX_SPEC_BYTES, NAME_PATTERN, RunSpec

REQUESTS: Final = "requests"
MAX_REQUEST_BYTES: Final = MAX_SPEC_BYTES + 2**18
RUN_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TASKS: Final = ("phase", "train", "validate", "finish")
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Site = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Moment = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$")]
T = TypeVar("T", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RunRequest(_Frozen):
    """A run that asks to be approved. All that is shown of it is read from ``spec``, which is what runs.

    The policies of platform and study travel along; they can only tighten the site's own.
    """

    version: Literal[1] = 1
    run_id: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    run_digest: Digest
    study_title: str = Field(max_length=200)
    asked_by: str = Field(max_length=150)
    asked_at: str = Field(max_length=40)  # UTC, ISO 8601
    sites: tuple[Site, ...] = Field(min_length=1, max_length=1000)
    spec: RunSpec
    platform_policy: Policy = Policy()
    study_policy: Policy = Policy()

    @model_validator(mode="after")
    def _digest_is_of_the_spec(self) -> Self:
        if self.spec.digest() != self.run_digest:
            raise ValueError("the digest is not that of the specification")
        return self


class SiteDecision(_Frozen):
    """A site's word on one run. ``policy`` is the meet of platform, study and site when it was given."""

    version: Literal[1] = 1
    run_id: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    run_digest: Digest
    approve: bool
    by: Literal["rule", "person"]
    person: str = Field(default="", max_length=150)  # stays at the site
    reason: str = Field(default="", max_length=2000)
    rules: tuple[str, ...] = Field(default=(), max_length=20)
    decided_at: Moment  # what is signed has the same form
    policy: Policy


def now() -> str:
    """Return this moment as a ``Moment``: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def facts_of(spec: RunSpec) -> RequestFacts:
    """What a policy decides about, from the specification alone."""
    return RequestFacts(
        study=spec.study.slug,
        algorithm=spec.algorithm,
        min_sites=spec.min_sites,
        rounds=spec.rounds,
        masked=spec.policy.secure_aggregation,
        private=spec.policy.privacy is not None or spec.arms() == ("local",),
        answer_bytes=max(answer_bytes(spec, task) for task in TASKS),
    )


def answer_bytes(spec: RunSpec, task: str) -> int:
    """The most bytes of numbers that one answer to ``task`` holds: the masked vector, or float32 tensors."""
    if spec.policy.secure_aggregation:
        return max(vector_sizes(spec, task), default=0)
    sizes: dict[tuple[str, str], int] = {}
    for tensor in spec.tensors:
        if (tensor.phase == "train") == (task == "train") and task in {"train", "phase"}:
            part = ("", "train") if task == "train" else (tensor.arm, tensor.phase)
            sizes[part] = sizes.get(part, 0) + 4 * tensor.size
    return max(sizes.values(), default=0)


def run_folder(home: Path, run_id: str) -> Path:
    """The folder of a run's request. Raises NotApprovedError for a text that is no run id."""
    if not RUN_ID.fullmatch(run_id):
        raise NotApprovedError("The job names no run; nothing was started. Submit it through the portal.")
    return home / REQUESTS / run_id


def read_request(home: Path, run_id: str) -> RunRequest:
    """What was asked. Raises NotApprovedError when the site was never asked or its file is damaged."""
    found = _read(run_folder(home, run_id) / "request.json", RunRequest)
    if found is None or found.run_id != run_id:
        raise NotApprovedError(
            f"This site was never asked about run {run_id[:8]}; nothing was started. Wait until its request "
            "has arrived and approve it."
        )
    return found


def read_decision(home: Path, run_id: str) -> SiteDecision | None:
    """What was decided; None when nothing was. Raises NotApprovedError when the file is damaged."""
    return _read(run_folder(home, run_id) / "decision.json", SiteDecision)


def read_plain(path: Path, limit: int) -> bytes:
    """The file's content, empty beyond ``limit`` bytes. A link or a pipe in its place is not followed.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    return content if len(content) <= limit else b""


def _read(path: Path, model: type[T]) -> T | None:
    try:
        content = read_plain(path, MAX_REQUEST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotApprovedError(
            f"{path.name} of a run cannot be read ({error.strerror}). Make it readable."
        ) from error
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise NotApprovedError(
            f"{path.name} of run {path.parent.name[:8]} is damaged, so the run is not approved. Delete its "
            "folder in requests/; the portal asks again."
        ) from error
