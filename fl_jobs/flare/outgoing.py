"""What may leave a site, decided from the run specification and the site's own policy alone. No NVFlare.

Everything is an allow-list: a name, a shape or a key that nobody declared stays at the site.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_jobs.errors import SharedStateError
from fl_jobs.flare import wire
from fl_jobs.masking.plans import vector_sizes
from fl_jobs.messages import METRIC_KEYS, SUM_NAMES, TUNED, TensorMap
from fl_jobs.packaging.spec import RunSpec
from secure_agg.errors import SecureAggregationError
from secure_agg.messages import Advert, FreezeSig, Recover, Reveal, RosterAck, Upload, peek_type

_TEXT_KEYS = {"name", "round", "phase", "run", "lanes", "metrics"}
_FINISH_KEYS = {"rows", "files", "shared_sha256", "cells", "differences", "proposal", "absent_labels"}
_KEPT_FINISH_KEYS = {
    "rows",
    "cells",
    "differences",
    "proposal",
    "absent_labels",
}  # None unless the site shares its metrics
_MASKED_KEYS = {"name", "round", "run", "open"}
_OPEN_KEYS = METRIC_KEYS - {"sums"}
_MESSAGE_TYPES = {
    wire.ADVERT: Advert.TYPE,
    wire.ROSTER: RosterAck.TYPE,
    wire.FREEZE: FreezeSig.TYPE,
    wire.REVEAL: Reveal.TYPE,
    wire.RECOVER: Recover.TYPE,
}
_LANES = frozenset({"samples", "one"})
_COLUMNS = {"local", "global", "personal", TUNED}
SITE_PART_CHARACTERS_MAX = 65_536
ROUNDS_MAX = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_outgoing(
    text: Mapping[str, Any], tensors: TensorMap, spec: RunSpec, task: str, *, share_site_metrics: bool
) -> None:
    """Raise SharedStateError naming the first thing in a result that the run never declared."""
    if extra := set(text) - _TEXT_KEYS:
        raise SharedStateError(f"The result says {sorted(extra)[0]!r}, which no run declares.")
    if text.get("name") != task:
        raise SharedStateError("The result answers another task than the one NVFlare gave.")
    if text.get("phase") not in {"train", *(tensor.phase for tensor in spec.tensors)}:
        raise SharedStateError("The result names a phase that the run does not have.")
    _check_round(text, spec)
    _check_tensors(tensors, spec, task, str(text.get("phase")))
    _check_numbers(text.get("lanes"), "lanes", _LANES)
    if spec.policy.privacy is not None and any(value != 1 for value in text["lanes"].values()):
        raise SharedStateError("Under differential privacy a site's number of cases stays at the site.")
    metrics = text.get("metrics")
    share_site_metrics = share_site_metrics and spec.policy.privacy is None
    _check_open_part(metrics, METRIC_KEYS, task, share_site_metrics=share_site_metrics)
    sums = metrics.get("sums") if isinstance(metrics, dict) else None
    if not isinstance(sums, dict) or sums.keys() - {*spec.arms(), TUNED}:
        raise SharedStateError("The result has sums of an arm that this run does not train.")
    allowed = frozenset(SUM_NAMES.get(task, ())) if spec.policy.privacy is None else frozenset()
    for arm, values in sums.items():
        _check_numbers(values, f"sums of {arm}", allowed)


def check_masked(
    text: Mapping[str, Any], vector_bytes: int, spec: RunSpec, task: str, *, share_site_metrics: bool
) -> None:
    """The same for a masked answer: sums and weights are in the vector, never beside it."""
    if extra := set(text) - _MASKED_KEYS:
        raise SharedStateError(f"The masked result says {sorted(extra)[0]!r}, which no run declares.")
    if text.get("name") != task:
        raise SharedStateError("The result answers another task than the one NVFlare gave.")
    _check_round(text, spec)
    if vector_bytes not in vector_sizes(spec, task):
        raise SharedStateError("The masked vector has not the length that the run declares.")
    share_site_metrics = share_site_metrics and spec.policy.privacy is None
    _check_open_part(text.get("open"), _OPEN_KEYS, task, share_site_metrics=share_site_metrics)


def check_message(message: bytes, task: str) -> None:
    """Each task is answered by one type of FLSA-1 message: an upload by orders, the rest by its steps."""
    try:
        found = peek_type(message)
    except SecureAggregationError as error:
        raise SharedStateError("A result that is no message of secure aggregation does not leave.") from error
    if found != _MESSAGE_TYPES.get(task, Upload.TYPE):
        raise SharedStateError(f"A message of type {found} does not answer {task}; it does not leave.")


def _check_open_part(part: object, allowed: frozenset[str], task: str, *, share_site_metrics: bool) -> None:
    if not isinstance(part, dict) or part.keys() - allowed:
        raise SharedStateError("The result has metrics that no run declares.")
    initial = part.get("initial_sha256")
    if initial is not None and not (isinstance(initial, str) and _DIGEST.fullmatch(initial)):
        raise SharedStateError("The digest of the initial model is not a digest.")
    if not share_site_metrics:
        _check_site_part(part.get("site"), task)
    _check_files(part.get("site"))


def _check_files(site: object) -> None:
    """Digests are digests, shared figures or not, and figures do not fill a page."""
    if len(json.dumps(site, default=str)) > SITE_PART_CHARACTERS_MAX:
        raise SharedStateError("The site's own figures are longer than any run's.")
    finish = site.get("finish") if isinstance(site, dict) else None
    if finish is None:
        return
    files = finish.get("files") or {} if isinstance(finish, dict) else None
    shared = finish.get("shared_sha256") or {} if isinstance(finish, dict) else None
    if not isinstance(files, dict) or not isinstance(shared, dict):
        raise SharedStateError("The final report names files in a form that no run declares.")
    digests = list(shared.values())
    for file in files.values():
        if not isinstance(file, dict) or file.keys() != {"round", "personal_sha256"}:
            raise SharedStateError("The final report names files in a form that no run declares.")
        digests.append(file["personal_sha256"])
        if type(file["round"]) is not int or not 0 <= file["round"] <= ROUNDS_MAX:
            raise SharedStateError("The final report names a round that no run has.")
    if (files.keys() | shared.keys()) - _COLUMNS:
        raise SharedStateError("The final report names an arm that no run has.")
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in digests):
        raise SharedStateError("A digest in the final report is not a digest.")


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


def _check_round(text: Mapping[str, Any], spec: RunSpec) -> None:
    """An integer without a bound would carry any number of bits."""
    number = text.get("round")
    if type(number) is not int or not 0 <= number <= spec.rounds + 1:
        raise SharedStateError("The result names a round that the run does not have.")


def _check_numbers(values: object, what: str, allowed: frozenset[str]) -> None:
    if not isinstance(values, dict) or values.keys() - allowed:
        raise SharedStateError(f"The result has {what} that no run declares.")
    for name, value in values.items():
        bounded = isinstance(value, float) or (type(value) is int and abs(value) <= 2**53)
        if not bounded or not math.isfinite(value):
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
