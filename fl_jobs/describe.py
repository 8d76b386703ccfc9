"""``python -m fl_jobs.describe < spec.json``: which tensors a run lets out of a site, as JSON.

The portal asks in a process of its own because it never imports torch itself. A refusal is
``{"error": sentence}`` with exit status 2.
"""

import json
import sys

import torch
from pydantic import ValidationError

from fl_jobs.algorithms.build import describe_tensors
from fl_jobs.errors import FLJobError, SpecError
from fl_jobs.packaging.spec import RunSpec

MAX_SPEC_BYTES = 8 * 2**20


def describe(data: bytes) -> list[dict[str, object]]:
    """The tensor list of a specification, as JSON values. Raises SpecError."""
    if len(data) > MAX_SPEC_BYTES:
        raise SpecError("The run specification is too large. Shorten its lists of labels and features.")
    try:
        spec = RunSpec.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise SpecError(f"The run specification is not valid at {where}: {first['msg']}.") from error
    return [tensor.model_dump(mode="json") for tensor in describe_tensors(spec)]


def main() -> int:
    torch.set_num_threads(1)
    try:
        answer: dict[str, object] = {"tensors": describe(sys.stdin.buffer.read(MAX_SPEC_BYTES + 1))}
    except FLJobError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)
    return 2 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
