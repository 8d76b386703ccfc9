"""A network for tables: MONAI's FullyConnectedNet as base, without normalisation layers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.networks.nets.fullyconnectednet import FullyConnectedNet
from torch import nn

from fl_jobs.packaging.spec import TaskSpec
from fl_jobs.split_model import Scaler, SplitModel


def build(task: TaskSpec, arguments: Mapping[str, Any], weights: Path | None = None) -> SplitModel:
    """A model whose features lie in [0, ∞): the ReLU before the head gives an offset something to shift."""
    del weights
    feature_dim = int(arguments["feature_dim"])
    base = nn.Sequential(
        FullyConnectedNet(len(task.features), feature_dim, [int(arguments["hidden"])]),
        nn.ReLU(),
    )
    return SplitModel(base, nn.Linear(feature_dim, len(task.labels)), Scaler(len(task.features)))
