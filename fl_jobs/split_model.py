"""A network in two parts: base (input to feature) and head (feature to logits), after the site's own scaling.

Shape suffixes: B = batch, K = feature, C = class.
"""

import torch
from torch import Tensor, nn

MINIMUM_STD = 1e-6


class Scaler(nn.Module):
    """Standardises an input with statistics of the site's own training cases. Personal in every arm.

    ``size`` is the number of columns or image channels (dimension 1 of the input); 0 passes codes of texts
    on. Images arrive as bytes and are divided by 255 first.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        if size:
            self.register_buffer("mean", torch.zeros(size))
            self.register_buffer("std", torch.ones(size))

    def fit(self, x: Tensor) -> None:
        """Set mean and standard deviation from all training inputs; a constant column keeps its scale."""
        if not self.size:
            return
        columns = self._number(x).transpose(0, 1).flatten(1).double()
        self.mean.copy_(columns.mean(dim=1))
        std = columns.std(dim=1, correction=0)
        self.std.copy_(torch.where(std < MINIMUM_STD, torch.ones_like(std), std))

    def forward(self, x: Tensor) -> Tensor:
        if not self.size:
            return x
        shape = (1, self.size) + (1,) * (x.dim() - 2)
        return (self._number(x) - self.mean.view(shape)) / self.std.view(shape)

    @staticmethod
    def _number(x: Tensor) -> Tensor:
        return x.float() / 255 if x.dtype == torch.uint8 else x.float()


def run_base(base: nn.Module, scaled: Tensor, *, mixed: bool) -> Tensor:
    """The feature in float32. ``mixed``: products inside the base are taken in bfloat16.

    Its exponent is that of a float32, so no loss has to be scaled. What is made of a feature (heads, means,
    distances) costs little and loses much by it, so it stays outside.
    """
    if not mixed:
        features: Tensor = base(scaled)
        return features
    with torch.autocast(scaled.device.type, torch.bfloat16):
        features = base(scaled)
    return features.float()


class SplitModel(nn.Module):
    """``head(base(scaler(x)))``. The head is one linear layer with all labels of the study."""

    def __init__(self, base: nn.Module, head: nn.Linear, scaler: Scaler) -> None:
        super().__init__()
        self.base, self.head, self.scaler = base, head, scaler

    def forward(self, x: Tensor) -> Tensor:
        logits_BC: Tensor = self.head(self.base(self.scaler(x)))
        return logits_BC
