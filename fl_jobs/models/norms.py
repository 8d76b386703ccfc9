"""What stands in place of batch normalisation, whose running statistics no site may use silently.

Shape suffixes: B = batch, C = channel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_GROUPS = 32
GROUP_CHANNELS = 4  # fewer per group, and a map of one pixel loses what its channels say
MOMENTUM = 0.1  # a round at a small site is a few steps; EfficientNet's own 0.01 would take hundreds


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with the statistics of trained weights; scale and shift are trained.

    The statistics are no part of the model's state: they are in the file that the specification names.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None  # noqa: S101 - for the type checker
        assert norm.running_var is not None  # noqa: S101 - for the type checker
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.register_buffer("running_mean", norm.running_mean.clone(), persistent=False)
        self.register_buffer("running_var", norm.running_var.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation that takes the running statistics for a batch of one number per channel."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() > x.shape[1]:
            return super().forward(x)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


def replace_batch_norms(network: nn.Module, norm: str) -> None:
    """Put ``norm`` ("group", "frozen" or "batch") in place of every BatchNorm2d, scale and shift kept."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _replacement(child, norm))


def _replacement(old: nn.BatchNorm2d, norm: str) -> nn.Module:
    if norm == "frozen":
        return FrozenBatchNorm(old)
    if norm == "batch":
        shared = SharedBatchNorm(old.num_features, eps=old.eps, momentum=MOMENTUM)
        shared.load_state_dict(old.state_dict())
        return shared
    group = nn.GroupNorm(count_groups(old.num_features), old.num_features)
    with torch.no_grad():
        group.weight.copy_(old.weight)
        group.bias.copy_(old.bias)
    return group


def count_groups(channels: int) -> int:
    """The largest divisor of ``channels`` up to 32 that leaves four channels or more per group."""
    limit = max(1, min(MAX_GROUPS, channels // GROUP_CHANNELS))
    return max(groups for groups in range(1, limit + 1) if channels % groups == 0)
