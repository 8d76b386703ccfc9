"""A small network for small images, of MONAI convolution blocks with group normalisation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.networks.blocks.convolutions import Convolution
from torch import nn

from fl_jobs.packaging.spec import TaskSpec
from fl_jobs.split_model import Scaler, SplitModel


def build(task: TaskSpec, arguments: Mapping[str, Any], weights: Path | None = None) -> SplitModel:
    """Four convolutions of stride 2, widths w, 2w, 4w, 4w, then the mean over the image."""
    del weights
    width = int(arguments["width"])
    layers: list[nn.Module] = []
    channels = task.channels
    for out in (width, 2 * width, 4 * width, 4 * width):
        layers.append(
            Convolution(
                2, channels, out, strides=2, kernel_size=3, act="RELU", norm=("GROUP", {"num_groups": 4})
            )
        )
        channels = out
    base = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return SplitModel(base, nn.Linear(channels, len(task.labels)), Scaler(task.channels))
