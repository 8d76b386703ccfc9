"""Asking the learning side, in a process of its own, which tensors would leave a site."""

import json
import subprocess
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from pydantic import ValidationError

from fl_jobs.packaging.spec import RunSpec, canonical_json
from platform_web.training.errors import RunRequestError

TIMEOUT_S = 50  # below the outbox's lease
MAX_OUTPUT_BYTES = 5_000_000
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C.UTF-8",
}


def describe_run(draft: RunSpec) -> RunSpec:
    """``draft`` with its tensor list. The child gets no portal secret in its environment.

    Raises RunRequestError with the learning side's own sentence, or with one about time or output.
    """
    try:
        done = subprocess.run(
            [settings.CONSILIUM_PYTHON, "-m", "fl_jobs.describe"],
            input=draft.canonical(),
            capture_output=True,
            timeout=TIMEOUT_S,
            env=ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunRequestError(
            _("Building the model took longer than %(limit)d seconds. Choose a smaller model.")
            % {"limit": TIMEOUT_S}
        ) from error
    except OSError as error:
        raise RunRequestError(
            _(
                "The interpreter for model descriptions cannot be started. Set CONSILIUM_PYTHON to a "
                "Python that has torch."
            )
        ) from error
    answer = _read(done.stdout)
    if "error" in answer:
        raise RunRequestError(str(answer["error"])[:2000])
    try:
        return RunSpec.model_validate_json(
            canonical_json({**draft.model_dump(mode="json"), "tensors": answer["tensors"]})
        )
    except (KeyError, ValidationError) as error:
        raise _unreadable() from error


def _read(output: bytes) -> dict[str, Any]:
    if len(output) > MAX_OUTPUT_BYTES:
        raise _unreadable()
    try:
        answer = json.loads(output)
    except ValueError as error:
        raise _unreadable() from error
    if not isinstance(answer, dict):
        raise _unreadable()
    return answer


def _unreadable() -> RunRequestError:
    return RunRequestError(
        _(
            "The learning side could not describe this run. Check that portal and fl_jobs have the "
            "same version, then start it again."
        )
    )
