"""The two convolutions of the papers, without MONAI: importing it takes as much memory as torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import TaskSpec
from fl_jobs.split_model import Scaler, SplitModel


def build(task: TaskSpec, arguments: Mapping[str, Any], weights: Path | None = None) -> SplitModel:
    """Twice convolution, pooling by two and ReLU (a quarter of the work of ReLU first), then one layer.

    Filters 32, kernel 5, padding 0 and 512 features are the network of McMahan et al. (AISTATS 2017) as the
    papers on personalised learning use it for MNIST (582,026 numbers for one channel of 28 × 28 and ten
    labels); 16, 3, 1 and 64 the one of our anchors for digits of 8 × 8. Raises SpecError.
    """
    del weights
    filters, kernel, padding = (int(arguments[name]) for name in ("filters", "kernel", "padding"))
    sides = [task.height, task.width]
    for _ in range(2):
        sides = [(side + 2 * padding - kernel + 1) // 2 for side in sides]
    if min(sides) < 1:
        raise SpecError(
            f"Images of {task.height} × {task.width} pixels are too small for two convolutions with kernel "
            f"{kernel} and padding {padding}. Choose a smaller kernel, more padding or larger images."
        )
    feature_dim = int(arguments["feature_dim"])
    base = nn.Sequential(
        *(nn.Conv2d(task.channels, filters, kernel, padding=padding), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(filters, 2 * filters, kernel, padding=padding), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(2 * filters * sides[0] * sides[1], feature_dim), nn.ReLU()),
    )
    return SplitModel(base, nn.Linear(feature_dim, len(task.labels)), Scaler(task.channels))
