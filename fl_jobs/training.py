"""The one local loop: every arm of every algorithm goes through it with the same cases in the same order."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fl_jobs.algorithms.base import PersonalAlgorithm
from fl_jobs.errors import FLJobError


@dataclass(frozen=True)
class Cases:
    """A part of a data set as tensors: input and position in the label list, one row per case."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Trained:
    """What a round of local training did. ``loss_sum`` is Σ over the ``cases`` seen, in ``steps`` steps."""

    loss_sum: float
    cases: int
    steps: int


class _Batches:
    """All training cases in a fixed order, as often as asked for."""

    def __init__(self, cases: Cases, size: int) -> None:
        self._cases, self._size = cases, size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = (torch.split(part, self._size) for part in (self._cases.x, self._cases.y))
        return zip(x, y, strict=True)


def train_phase(
    algorithm: PersonalAlgorithm, phase: str, cases: Cases, *, seed: int, words: tuple[str | int, ...]
) -> Trained:
    """Train in place for one round of ``phase``; steps depend on the number of cases only, not on the arm.

    The order of the cases follows from ``seed`` and ``words`` (site, round), so arms see the same batches.
    The optimiser is new in each round: a resumed run equals an uninterrupted one. Raises FLJobError when the
    loss is not finite.
    """
    settings = algorithm.hyper_parameters
    size, rate = int(settings["batch_size"]), float(settings["learning_rate"])
    algorithm.phase = phase
    algorithm.train()
    algorithm.begin_round(_Batches(cases, size))
    groups = [
        {"params": group["params"], "lr": rate * group["rate"]} for group in algorithm.param_groups(phase)
    ]
    optimiser = torch.optim.Adam(groups)
    loss_sum, seen, steps = 0.0, 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(seed, *words))
        for _ in range(int(settings["local_epochs"])):
            for rows in torch.split(torch.randperm(len(cases.y)), size):
                loss = algorithm.loss(_turned(cases.x[rows]), cases.y[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                loss_sum, seen, steps = loss_sum + loss.item() * len(rows), seen + len(rows), steps + 1
    if not math.isfinite(loss_sum):
        raise FLJobError(
            "Training diverged: the loss is not finite. Lower the learning rate and start again."
        )
    return Trained(loss_sum, seen, steps)


def _turned(x: Tensor) -> Tensor:
    """Images of a batch are mirrored at random; other inputs stay."""
    if x.dtype != torch.uint8:
        return x
    for axis in (-1, -2):
        mirror = torch.rand(len(x)) < 0.5
        x = torch.where(mirror.view(-1, 1, 1, 1), x.flip(axis), x)
    return x


def _seed(seed: int, *words: str | int) -> int:
    text = "\n".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
