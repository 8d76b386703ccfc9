"""What server and site say to each other in a run: plain data, no torch, no NVFlare.

``TaskOrder`` goes to every site alike (a broadcast); each site makes a ``Contribution`` of it; the server's
session gets ``Gathered``: sums over the sites. Who adds up is decided by the run's policy: the server itself
(``fl_jobs.aggregation``, it sees every contribution) or FLSA-1 (``fl_jobs.masking``, it sees sums only).

Task names, in the order in which a run sends them:
``phase`` (a one-off phase of an arm, round 0, header: arm, phase) · ``train`` (round r; tensors =
aggregate of r-1 and the constants of the one-off phases; header: best = {arm: best round so far}) ·
``validate`` (after the last round) · ``finish`` (header: chosen = {arm: round}; tensors = aggregates of the
chosen rounds; each site reads its test part once, writes its model files and reports its benefit cells).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_jobs.packaging.spec import RunSpec, TensorSpec, canonical_json

TensorMap = dict[str, NDArray[np.float32]]
METRIC_KEYS = frozenset({"sums", "site", "initial_sha256"})
VALIDATION = {"val_loss": "val_loss", "val_accuracy": "val_correct", "val_balanced_accuracy": "val_balanced"}
TRAINED_SUMS = ("train_loss", "train_n")
VALIDATED_SUMS = ("val_loss", "val_correct", "val_balanced", "val_n")
TESTED_SUMS = ("test_correct", "test_balanced", "test_n")
SUM_NAMES = {
    "phase": (),
    "train": (*TRAINED_SUMS, *VALIDATED_SUMS),
    "validate": VALIDATED_SUMS,
    "finish": TESTED_SUMS,
}
TUNED = "tuned"  # the fourth column of the benefit table: the FedAvg aggregate, fine-tuned at the site


@dataclass(frozen=True)
class TaskOrder:
    """One task for all sites. ``header`` is JSON; tensors are named by wire name (``arm/name``)."""

    name: str
    round_number: int
    header: dict[str, Any] = field(default_factory=dict)
    tensors: TensorMap = field(default_factory=dict)

    def declared(self, spec: RunSpec) -> dict[str, TensorSpec]:
        """The tensors that answer this order, by wire name; most tasks have none."""
        if self.name == "train":
            return spec.shared()
        if self.name != "phase":
            return {}
        shared = spec.shared(str(self.header.get("phase")))
        return {wire: tensor for wire, tensor in shared.items() if tensor.arm == self.header.get("arm")}

    def statistics(self, spec: RunSpec) -> tuple[str, ...]:
        """The names (``arm/name``) of all sums that may answer this order, in their fixed order."""
        arms: list[str] = list(spec.arms())
        if self.name == "finish" and "global" in arms:
            arms.append(TUNED)
        return tuple(f"{arm}/{name}" for arm in arms for name in SUM_NAMES.get(self.name, ()))

    def digest(self, run_digest: str) -> bytes:
        """32 bytes that name this order of this run; the tensors have a digest of their own."""
        named = {"run": run_digest, "name": self.name, "round": self.round_number, "header": self.header}
        return hashlib.sha256(canonical_json(named)).digest()


@dataclass(frozen=True)
class Contribution:
    """One site's answer, as the site itself sees it.

    ``tensors`` hold values, ``lanes`` the weights they count with ({"samples": n, "one": 1.0}).
    ``metrics`` is JSON with the keys METRIC_KEYS:

    - "sums": {arm: {name of SUM_NAMES: float}}, additive over sites;
    - "initial_sha256": digest of the initial model the site built, equal at all sites;
    - "site": this site's own cells. On train/validate {"trained": {arm: {"train_loss"}} (train only),
      "validated": {arm: {"val_loss", "val_accuracy",
      "val_balanced_accuracy"}}}, None when the site's policy keeps them. On finish
      always {"finish": …}; its "rows", "cells" ({arm: {metric, and "low", "high" of the endpoint}}),
      "differences" ({arm: ``fl_jobs.benefit.Difference`` and "validation": {"value", "error"}}) and
      "proposal" are None when the policy keeps them.
    """

    tensors: TensorMap
    lanes: dict[str, float]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class MaskedContribution:
    """The same as it leaves under masks: an FLSA-1 UPLOAD, the masked vector, and what is said openly."""

    message: bytes
    vector: NDArray[np.uint8]
    open_part: dict[str, Any]


@dataclass(frozen=True)
class Sums:
    """Σ value × weight by wire name, each with the sum of its weights."""

    tensors: dict[str, NDArray[np.float64]]
    weights: dict[str, float]


@dataclass(frozen=True)
class Gathered:
    """What the server's session learns from the answers to one order: sums, and what sites say openly.

    ``metrics`` holds Σ over sites as {arm: {name: float}}; ``open_parts`` has for each site the keys
    "initial_sha256" and "site" of its metrics.
    """

    sums: Sums
    metrics: dict[str, dict[str, float]]
    open_parts: Mapping[str, Mapping[str, Any]]

    @property
    def sites(self) -> list[str]:
        return sorted(self.open_parts)


@dataclass(frozen=True)
class Commit:
    """What one task changed on the server, ready to be written down.

    ``tensors`` is the new aggregate by wire name (empty when the task has none). ``record`` is the JSON
    line of the run's journal; the adapter adds digests, time and epoch.
    """

    tensors: TensorMap
    record: dict[str, Any]
