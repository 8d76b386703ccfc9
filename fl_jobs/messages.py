"""What server and site say to each other in a run: plain data, no torch, no NVFlare.

``TaskOrder`` goes to every site alike (a broadcast); a ``Contribution`` comes back. The adapters in
``fl_jobs.flare`` put them on the wire, ``fl_jobs.simulate`` hands them over directly.

Task names, in the order in which a run sends them:
``phase`` (a one-off phase of an arm, round 0, header: arm, phase) · ``train`` (round r; tensors =
aggregate of r-1 and the constants of the one-off phases; header: best = {arm: best round so far}) ·
``validate`` (after the last round) · ``finish`` (header: chosen = {arm: round}; tensors = aggregates of the
chosen rounds; each site reads its test part once, writes its model files and reports its benefit cells).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

TensorMap = dict[str, NDArray[np.float32]]
METRIC_KEYS = frozenset({"sums", "site", "initial_sha256"})
VALIDATION = {"val_loss": "val_loss", "val_accuracy": "val_correct", "val_balanced_accuracy": "val_balanced"}
SUM_NAMES = frozenset({"train_loss", "train_n", "val_loss", "val_correct", "val_balanced", "val_n"})


@dataclass(frozen=True)
class TaskOrder:
    """One task for all sites. ``header`` is JSON; tensors are named by wire name (``arm/name``)."""

    name: str
    round_number: int
    header: dict[str, Any] = field(default_factory=dict)
    tensors: TensorMap = field(default_factory=dict)


@dataclass(frozen=True)
class Contribution:
    """One site's answer.

    ``tensors`` hold value × weight, ``lanes`` the weights ({"samples": n, "one": 1.0}); the server adds
    both and divides. ``metrics`` is JSON with the keys METRIC_KEYS:

    - "sums": {arm: {name of SUM_NAMES: float}}, additive over sites;
    - "initial_sha256": digest of the initial model the site built, equal at all sites;
    - "site": this site's own cells. On train/validate {"trained": {arm: {"train_loss"}} (train only),
      "validated": {arm: {"val_loss", "val_accuracy",
      "val_balanced_accuracy"}}}, None when the site's policy keeps them. On finish
      always {"finish": …}; its "cells", "differences" and "proposal" are None when the policy keeps them.
    """

    tensors: TensorMap
    lanes: dict[str, float]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Commit:
    """What one task changed on the server, ready to be written down.

    ``tensors`` is the new aggregate by wire name (empty when the task has none). ``record`` is the JSON
    line of the run's journal; the adapter adds digests, time and epoch.
    """

    tensors: TensorMap
    record: dict[str, Any]
