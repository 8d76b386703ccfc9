"""What may leave a site, decided from the run specification and the site's own policy alone. No NVFlare.

Everything is an allow-list: a name, a shape or a key that nobody declared stays at the site.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_jobs.errors import SharedStateError
from fl_jobs.messages import METRIC_KEYS, SUM_NAMES, TensorMap
from fl_jobs.packaging.spec import RunSpec

_TEXT_KEYS = {"name", "round", "phase", "run", "lanes", "metrics"}
_FINISH_KEYS = {"rows", "files", "shared_sha256", "cells", "differences", "proposal", "absent_labels"}
_KEPT_FINISH_KEYS = {
    "cells",
    "differences",
    "proposal",
    "absent_labels",
}  # None unless the site shares its metrics
_LANES = frozenset({"samples", "one"})
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_outgoing(
    text: Mapping[str, Any], tensors: TensorMap, spec: RunSpec, task: str, *, share_site_metrics: bool
) -> None:
    """Raise SharedStateError naming the first thing in a result that the run never declared."""
    if extra := set(text) - _TEXT_KEYS:
        raise SharedStateError(f"The result says {sorted(extra)[0]!r}, which no run declares.")
    if text.get("name") != task:
        raise SharedStateError("The result answers another task than the one NVFlare gave.")
    _check_tensors(tensors, spec, task, str(text.get("phase")))
    _check_numbers(text.get("lanes"), "lanes", _LANES)
    metrics = text.get("metrics")
    if not isinstance(metrics, dict) or metrics.keys() - METRIC_KEYS:
        raise SharedStateError("The result has metrics that no run declares.")
    initial = metrics.get("initial_sha256")
    if initial is not None and not (isinstance(initial, str) and _DIGEST.fullmatch(initial)):
        raise SharedStateError("The digest of the initial model is not a digest.")
    sums = metrics.get("sums")
    if not isinstance(sums, dict) or sums.keys() - set(spec.arms()):
        raise SharedStateError("The result has sums of an arm that this run does not train.")
    for arm, values in sums.items():
        _check_numbers(values, f"sums of {arm}", SUM_NAMES)
    if not share_site_metrics:
        _check_site_part(metrics.get("site"), task)


def _check_tensors(tensors: TensorMap, spec: RunSpec, task: str, phase: str) -> None:
    if task == "phase" and phase == "train":
        raise SharedStateError("A one-off phase may not send what training sends.")
    declared = spec.shared("train" if task == "train" else phase) if task in {"train", "phase"} else {}
    for name, value in tensors.items():
        tensor = declared.get(name)
        if tensor is None:
            raise SharedStateError(f"The tensor {name!r} is not declared as shared in {task}.")
        if value.dtype != np.float32 or value.shape != tensor.shape:
            raise SharedStateError(f"The tensor {name!r} has not the declared shape {tensor.shape}.")
        if not np.isfinite(value).all():
            raise SharedStateError(f"The tensor {name!r} contains NaN or infinity.")


def _check_numbers(values: object, what: str, allowed: frozenset[str]) -> None:
    if not isinstance(values, dict) or values.keys() - allowed:
        raise SharedStateError(f"The result has {what} that no run declares.")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SharedStateError(f"{name!r} in the {what} is not a finite number.")


def _check_site_part(site: object, task: str) -> None:
    """Without the site's consent only the digests of ``finish`` leave, never a metric of this one site."""
    if site is None:
        return
    if task != "finish" or not isinstance(site, dict) or set(site) != {"finish"}:
        raise SharedStateError("This site's policy keeps its own metrics; the result contains them.")
    finish = site["finish"]
    if not isinstance(finish, dict) or finish.keys() - _FINISH_KEYS:
        raise SharedStateError("The final report has parts that no run declares.")
    if any(finish.get(key) for key in _KEPT_FINISH_KEYS):
        raise SharedStateError("This site's policy keeps its own metrics; the final report contains them.")
