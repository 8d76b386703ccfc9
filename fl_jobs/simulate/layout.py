"""Convolutions and pools of many sites at once, channels last.

``vmap`` turns a convolution with a weight per site into one with groups, in the plain layout; there pooling
and the groups take three times as long as with channels last (measured), so both are said here by hand.
Shape suffixes: S = site, B = batch, C = channels in, O = channels out, H, W = pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# functional.max_pool2d looks up its own plain form under a name that torch keeps to itself
_POOLS = (
    functional.max_pool2d, vars(functional)["_max_pool2d"], torch.max_pool2d,
    functional.avg_pool2d, functional.adaptive_avg_pool2d,
)  # fmt: skip


class ManySites(TorchFunctionMode):
    """Inside, and inside ``vmap`` over sites, convolutions and pools run with channels last."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is torch.conv2d and not named and (len(args) < 7 or args[6] == 1):
            return _Convolution.apply(*args[:3], *args[3:6])  # type: ignore[no-untyped-call]
        if func in _POOLS and not named.get("return_indices"):
            return _Pool.apply(func, args[0], args[1:], named)  # type: ignore[no-untyped-call]
        if func is functional.group_norm:
            return _GroupNorm.apply(*args, *named.values())  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def channels_last(stacked_SOCHW: Tensor) -> Tensor:
    """The same weights of all sites, laid out so that they are one weight with channels last."""
    return stacked_SOCHW.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


class _Convolution(Function):
    @staticmethod
    def forward(x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        return functional.conv2d(x_BCHW, weight, bias, *rest)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Only what runs below ``vmap`` is differentiated, by torch's own rules."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
    ) -> tuple[Tensor, int]:
        sites = info.batch_size
        weight_SOCHW = weight.movedim(in_dims[1] or 0, 0)
        flat_bias = None if bias is None else bias.movedim(in_dims[2] or 0, 0).flatten()
        options = dict(zip(("stride", "padding", "dilation"), rest, strict=False))
        flat = _side_by_side(x, in_dims[0], sites)
        out = functional.conv2d(flat, weight_SOCHW.flatten(0, 1), flat_bias, **options, groups=sites)
        return out.unflatten(1, (sites, -1)), 1  # type: ignore[no-untyped-call]


class _Pool(Function):
    @staticmethod
    def forward(pool: Callable[..., Any], x_BCHW: Tensor, rest: tuple[Any, ...], named: Any) -> Tensor:
        pooled: Tensor = pool(x_BCHW, *rest, **named)
        return pooled

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Only what runs below ``vmap`` is differentiated, by torch's own rules."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], pool: Callable[..., Any], x: Tensor, rest: Any, named: Any
    ) -> tuple[Tensor, int]:
        pooled: Tensor = pool(_side_by_side(x, in_dims[1], info.batch_size), *rest, **named)
        return pooled.unflatten(1, (info.batch_size, -1)), 1  # type: ignore[no-untyped-call]


class _GroupNorm(Function):
    """The groups of all sites one after another: each is normalised by itself, as alone."""

    @staticmethod
    def forward(x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float) -> Tensor:
        return functional.group_norm(x_BCHW, groups, weight_C, bias_C, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Only what runs below ``vmap`` is differentiated, by torch's own rules."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Sequence[int | None],
        x: Tensor,
        groups: int,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> tuple[Tensor, int]:
        flat = _side_by_side(x, in_dims[0], info.batch_size)
        out = functional.group_norm(flat, groups * info.batch_size, weight.flatten(), bias.flatten(), eps)
        return out.unflatten(1, (info.batch_size, -1)), 1  # type: ignore[no-untyped-call]


def _side_by_side(x: Tensor, at: int | None, sites: int) -> Tensor:
    """B × (S·C) × H × W with channels last: the sites' channels one after another."""
    x_BSCHW = x.unsqueeze(1).expand(-1, sites, -1, -1, -1) if at is None else x.movedim(at, 1)
    return x_BSCHW.flatten(1, 2).contiguous(memory_format=torch.channels_last)
