"""``python -m fl_jobs.describe < spec.json``: which tensors a run lets out of a site, as JSON.

The portal asks in a process of its own because it never imports torch itself. A refusal is
``{"error": sentence}`` with exit status 2.
"""

import json
import sys

import torch

from fl_jobs.algorithms.build import describe_tensors
from fl_jobs.errors import FLJobError
from fl_jobs.packaging.spec import MAX_SPEC_BYTES, parse_spec


def describe(data: bytes) -> list[dict[str, object]]:
    """The tensor list of a specification, as JSON values. Raises SpecError."""
    return [tensor.model_dump(mode="json") for tensor in describe_tensors(parse_spec(data))]


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
