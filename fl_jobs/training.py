"""The one local loop: every arm of every algorithm goes through it with the same cases in the same order."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm, Stage
from fl_jobs.augmentation import augment
from fl_jobs.errors import FLJobError

GATHER_BYTES = 64 * 2**20
IMAGES = 4  # dimensions of a batch of images
TINY_BATCH_PIXELS = 1024
Step = Callable[[], None]


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
    algorithm: PersonalAlgorithm,
    phase: str,
    cases: Cases,
    *,
    seed: int,
    words: tuple[str | int, ...],
    progress: float = 0.0,
) -> Trained:
    """Train in place for one round of ``phase``; steps depend on the number of cases only, not on the arm.

    The order of the cases follows from ``seed`` and ``words`` (site, round), so arms see the same batches;
    an algorithm's own noise is drawn from another stream. ``progress`` (0 to 1) is the share of the run's
    rounds done before, for the schedule. Optimisers are new in each round: a resumed run equals an
    uninterrupted one. Raises FLJobError when the loss is not finite.
    """
    settings = algorithm.hyper_parameters
    batches = _Batches(cases, int(settings["batch_size"]))
    algorithm.phase = phase
    algorithm.class_weight_C = _class_weights(cases.y, algorithm.head.out_features, settings)
    algorithm.train()
    _lay_out(algorithm, cases.x, torch.channels_last)
    algorithm.begin_round(batches)
    done: list[Trained] = []
    with torch.random.fork_rng(devices=[]), _convolutions_for(cases.x, int(settings["batch_size"])):
        torch.manual_seed(_seed(seed, *words, "noise"))
        for stage in algorithm.stages():
            order = order_of(stage, phase, seed, words)
            done.append(_train_stage(algorithm, stage, cases, order, progress))
    _lay_out(algorithm, cases.x, torch.contiguous_format)
    algorithm.end_round(batches)
    result = Trained(sum(t.loss_sum for t in done), sum(t.cases for t in done), sum(t.steps for t in done))
    if not math.isfinite(result.loss_sum):
        raise FLJobError(
            "Training diverged: the loss is not finite. Lower the learning rate and start again."
        )
    return result


def _lay_out(algorithm: PersonalAlgorithm, x: Tensor, layout: torch.memory_format) -> None:
    """Convolutions train a fifth to a half faster with channels last; outside the loop nobody sees it."""
    if x.dim() == IMAGES:
        algorithm.to(memory_format=layout)  # type: ignore[call-overload]


@contextmanager
def _convolutions_for(x: Tensor, batch_size: int) -> Iterator[None]:
    """Calling oneDNN costs more than convolving tiny images by hand: a quarter of the step (measured)."""
    if x.dim() != IMAGES or x.shape[-1] * x.shape[-2] * batch_size > TINY_BATCH_PIXELS:
        yield
        return
    switch: Any = torch.backends.mkldnn  # its functions carry no types
    before = switch.set_flags(_enabled=False)[0]
    try:
        yield
    finally:
        switch.set_flags(_enabled=before)


def _train_stage(
    algorithm: PersonalAlgorithm, stage: Stage, cases: Cases, order: torch.Generator, progress: float
) -> Trained:
    """What no group of the stage holds is frozen, so that no gradient is computed for it."""
    settings = algorithm.hyper_parameters
    algorithm.stage = stage.name
    groups = algorithm.param_groups(stage.name)
    trained = [parameter for group in groups for parameter in group["params"]]
    flags = {parameter: parameter.requires_grad for parameter in algorithm.parameters()}
    for parameter in flags:
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    step, limit = make_step(groups, settings, progress), float(settings["clip_norm"])
    losses: list[Tensor] = []
    sizes: list[int] = []
    for _ in range(passes(stage, settings)):
        for x, y in shuffled(cases, settings, order):
            loss = algorithm.loss(x, y)
            loss.backward()  # type: ignore[no-untyped-call]
            if limit:
                torch.nn.utils.clip_grad_norm_(trained, limit)
            step()
            losses.append(loss.detach())
            sizes.append(len(y))
    for parameter, flag in flags.items():
        parameter.requires_grad_(flag)
    total = float((torch.stack(losses).double() * torch.tensor(sizes)).sum()) if losses else 0.0
    return Trained(total, sum(sizes), len(losses))


def order_of(stage: Stage, phase: str, seed: int, words: tuple[str | int, ...]) -> torch.Generator:
    """Where the order of the cases is drawn from; stages other than the phase's own have one of their own."""
    own = words if stage.name in (phase, TRAIN) else (*words, stage.name)
    return torch.Generator().manual_seed(_seed(seed, *own))


def passes(stage: Stage, settings: Mapping[str, Any]) -> int:
    """How often a stage goes through the training cases."""
    return int(settings["local_epochs"]) if stage.epochs is None else stage.epochs


def shuffled(
    cases: Cases, settings: Mapping[str, Any], order: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass in batches. Rows are gathered for many batches at once, up to 64 MiB of them."""
    size, mode = int(settings["batch_size"]), settings["augmentation"]
    row_bytes = max(cases.x[:1].numel() * cases.x.element_size(), 1)
    many = max(GATHER_BYTES // row_bytes // size, 1) * size
    for rows in torch.split(torch.randperm(len(cases.y), generator=order), many):
        x_rows = cases.x[rows]
        if x_rows.dim() == IMAGES:
            x_rows = x_rows.contiguous(memory_format=torch.channels_last)
        for x, y in zip(torch.split(x_rows, size), torch.split(cases.y[rows], size), strict=True):
            yield augment(x, mode, order), y


def make_step(groups: list[dict[str, Any]], settings: Mapping[str, Any], progress: float) -> Step:
    """One step of a new optimiser over ``groups``; it removes the gradients.

    Plain SGD has no state: torch's function is called without the class around it, which costs a small
    network a tenth of its step.
    """
    rate = float(settings["learning_rate"])
    if settings["schedule"] == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * progress))
    ready = [
        {
            "params": list(group["params"]),
            "lr": rate * group.get("rate", 1.0),
            "weight_decay": group.get("weight_decay", float(settings["weight_decay"])),
        }
        for group in groups
    ]
    if settings["optimiser"] == "sgd":
        return partial(_sgd_step, ready)
    adam = torch.optim.Adam(ready, fused=True)

    def step() -> None:
        adam.step()
        adam.zero_grad()

    return step


@torch.no_grad()
def _sgd_step(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        held = [parameter for parameter in group["params"] if parameter.grad is not None]
        grads = [parameter.grad for parameter in held]
        sgd(
            held, grads, [None] * len(held), foreach=True, lr=group["lr"], weight_decay=group["weight_decay"],
            momentum=0.0, dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip
        for parameter in held:
            parameter.grad = None


def _class_weights(y: Tensor, classes: int, settings: Any) -> Tensor | None:
    """Cases ÷ (labels present × cases of the label), as scikit-learn balances; None for equal weights."""
    if settings["class_weights"] != "balanced":
        return None
    counts_C = torch.bincount(y, minlength=classes).float()
    return torch.where(counts_C > 0, len(y) / ((counts_C > 0).sum() * counts_C.clamp(min=1)), 0.0)


def _seed(seed: int, *words: str | int) -> int:
    text = "\n".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
