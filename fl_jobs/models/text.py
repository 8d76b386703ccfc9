"""Networks for texts of any language over hashed characters; they need no vocabulary.

Shape suffixes: B = batch, L = length, D = numbers per character, F = filters, K = feature.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fl_jobs.packaging.spec import TaskSpec
from fl_jobs.split_model import Scaler, SplitModel

WINDOWS = (2, 3, 4)
ROW_STD = 0.1


class HashedBag(nn.Module):
    """Mean embedding of the codes of a text. Code 0 is padding; codes are folded into ``buckets`` rows."""

    def __init__(self, buckets: int, dim: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.bag = nn.EmbeddingBag(buckets + 1, dim, mode="mean", padding_idx=0)
        nn.init.normal_(self.bag.weight, std=ROW_STD)
        nn.init.zeros_(self.bag.weight[0].detach())

    def forward(self, codes_BL: Tensor) -> Tensor:
        rows_BD: Tensor = self.bag(fold_codes(codes_BL, self.buckets))
        return rows_BD


class CharacterWindows(nn.Module):
    """The largest answer of each filter over all windows that begin inside the text.

    Kim, EMNLP 2014, arXiv:1408.5882, over characters. Behind the text stand zeros, and windows that begin
    there do not count: what a text gives does not depend on the longest text of its batch.
    """

    def __init__(self, rows: int, dim: int, filters: int) -> None:
        super().__init__()
        self.rows = rows
        self.table = nn.Embedding(rows + 1, dim, padding_idx=0)
        self.windows = nn.ModuleList(nn.Conv1d(dim, filters, width) for width in WINDOWS)

    def forward(self, codes_BL: Tensor) -> Tensor:
        outside_B1L = (codes_BL == 0).unsqueeze(1)
        x_BDL = self.table(fold_codes(codes_BL, self.rows)).transpose(1, 2)
        found: list[Tensor] = []
        for width, window in zip(WINDOWS, self.windows, strict=True):
            answers_BFL = functional.relu(window(functional.pad(x_BDL, (0, width - 1))))
            found.append(answers_BFL.masked_fill(outside_B1L, 0.0).amax(dim=2))
        return torch.cat(found, dim=1)


def fold_codes(codes_BL: Tensor, rows: int) -> Tensor:
    """Codes as rows 1 … ``rows`` of a table; padding stays 0."""
    return ((codes_BL - 1) % rows + 1).masked_fill(codes_BL == 0, 0)


def build(task: TaskSpec, arguments: Mapping[str, Any], weights: Path | None = None) -> SplitModel:
    """A model over the codes of :func:`fl_jobs.data.texts.encode_texts`."""
    del weights
    dim, feature_dim = int(arguments["dim"]), int(arguments["feature_dim"])
    base = nn.Sequential(HashedBag(int(arguments["buckets"]), dim), nn.Linear(dim, feature_dim), nn.ReLU())
    return SplitModel(base, nn.Linear(feature_dim, len(task.labels)), Scaler(0))


def build_cnn(task: TaskSpec, arguments: Mapping[str, Any], weights: Path | None = None) -> SplitModel:
    """A model over the codes of :func:`fl_jobs.data.texts.encode_characters`."""
    del weights
    filters, feature_dim = int(arguments["windows"]), int(arguments["feature_dim"])
    base = nn.Sequential(
        CharacterWindows(int(arguments["rows"]), int(arguments["character_dim"]), filters),
        nn.Dropout(float(arguments["dropout"])),
        nn.Linear(len(WINDOWS) * filters, feature_dim),
        nn.ReLU(),
    )
    return SplitModel(base, nn.Linear(feature_dim, len(task.labels)), Scaler(0))
