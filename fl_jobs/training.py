"""The one local loop: every arm of every algorithm goes through it with the same cases in the same order."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from fl_jobs.algorithms.base import TRAIN, Batches, PersonalAlgorithm, Stage
from fl_jobs.augmentation import augment
from fl_jobs.cases import Cases, Trained
from fl_jobs.device import CPU, device_of
from fl_jobs.errors import FLJobError
from fl_jobs.private_steps import PrivateSteps, SealedBatches

__all__ = ("Cases", "Trained", "train_phase")
GATHER_BYTES = 64 * 2**20
IMAGES = 4  # dimensions of a batch of images
TINY_BATCH_PIXELS = 1024
MIXED = "mixed"  # of the setting "precision"
Step = Callable[[], None]


class _Batches:
    """All training cases in a fixed order, as often as asked for, each batch where the model is."""

    def __init__(self, cases: Cases, size: int, device: torch.device) -> None:
        self._cases, self._size, self._device = cases, size, device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = (torch.split(part, self._size) for part in (self._cases.x, self._cases.y))
        return ((a.to(self._device), b.to(self._device)) for a, b in zip(x, y, strict=True))


def train_phase(
    algorithm: PersonalAlgorithm,
    phase: str,
    cases: Cases,
    *,
    seed: int,
    words: tuple[str | int, ...],
    progress: float = 0.0,
    private: PrivateSteps | None = None,
) -> Trained:
    """Train in place, where the model is, for one round of ``phase``; no arm takes more steps than another.

    The order of the cases follows from ``seed`` and ``words`` (site, round), so arms see the same batches;
    an algorithm's own noise is drawn from another stream. ``progress`` (0 to 1) is the share of the run's
    rounds done before, for the schedule. Optimisers are new in each round: a resumed run equals an
    uninterrupted one. With ``private`` every step is noised and samples patients by itself, so nothing is
    repeatable, and hooks of the algorithm may not read the cases. Raises FLJobError when the loss is not
    finite.
    """
    settings, place = algorithm.hyper_parameters, device_of(algorithm)
    size = int(settings["batch_size"])
    batches: Batches = _Batches(cases, size, place) if private is None else SealedBatches()
    _tell(algorithm, phase, cases.y, mixed=private is None and settings["precision"] == MIXED)
    _lay_out(algorithm, cases.x, torch.channels_last)
    algorithm.begin_round(batches)
    done: list[Trained] = []
    noise_of = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=noise_of), _convolutions_for(cases.x, size):
        torch.manual_seed(round_noise(seed, words))
        for stage in algorithm.stages():
            order = order_of(stage, phase, seed, words)
            done.append(_train_stage(algorithm, stage, cases, order, progress, private))
    _lay_out(algorithm, cases.x, torch.contiguous_format)
    algorithm.end_round(batches)
    result = Trained(sum(t.loss_sum for t in done), sum(t.cases for t in done), sum(t.steps for t in done))
    if not math.isfinite(result.loss_sum):
        raise FLJobError(
            "Training diverged: the loss is not finite. Lower the learning rate and start again."
        )
    return result


def _tell(algorithm: PersonalAlgorithm, phase: str, y: Tensor, *, mixed: bool) -> None:
    """What an algorithm has to know of the round."""
    weight_C = _class_weights(y, algorithm.head.out_features, algorithm.hyper_parameters)
    algorithm.class_weight_C = None if weight_C is None else weight_C.to(device_of(algorithm))
    algorithm.phase, algorithm.mixed = phase, mixed
    algorithm.train()


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
    algorithm: PersonalAlgorithm,
    stage: Stage,
    cases: Cases,
    order: torch.Generator,
    progress: float,
    private: PrivateSteps | None,
) -> Trained:
    """What no group of the stage holds is frozen, so that no gradient is computed for it."""
    algorithm.stage = stage.name
    groups = [
        group | {"params": [parameter for parameter in group["params"] if parameter.requires_grad]}
        for group in algorithm.param_groups(stage.name)
    ]
    trained = [parameter for group in groups for parameter in group["params"]]
    if not trained:
        return Trained(0.0, 0, 0)
    flags = {parameter: parameter.requires_grad for parameter in algorithm.parameters()}
    for parameter in flags:
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    step = make_step(groups, algorithm.hyper_parameters, progress)
    if private is None:
        result = _plain_steps(algorithm, stage, cases, order, trained, step)
    else:
        result = private.take(algorithm, cases, order, trained, step)
    for parameter, flag in flags.items():
        parameter.requires_grad_(flag)
    return result


def _plain_steps(
    algorithm: PersonalAlgorithm,
    stage: Stage,
    cases: Cases,
    order: torch.Generator,
    trained: list[torch.nn.Parameter],
    step: Step,
) -> Trained:
    settings = algorithm.hyper_parameters
    limit, full, place = float(settings["clip_norm"]), full_batch(settings, cases), device_of(algorithm)
    losses: list[Tensor] = []
    sizes: list[int] = []
    for _ in range(passes(stage, settings)):
        for x, y in shuffled(cases, settings, order, place):
            loss = algorithm.loss(x, y)
            weighed = loss if len(y) == full else loss * (len(y) / full)
            weighed.backward()  # type: ignore[no-untyped-call]
            if limit:
                torch.nn.utils.clip_grad_norm_(trained, limit)
            step()
            losses.append(loss.detach())
            sizes.append(len(y))
    total = float((torch.stack(losses).double().cpu() * torch.tensor(sizes)).sum()) if losses else 0.0
    return Trained(total, sum(sizes), len(losses))


def order_of(stage: Stage, phase: str, seed: int, words: tuple[str | int, ...]) -> torch.Generator:
    """Where the order of the cases is drawn from; stages other than the phase's own have one of their own."""
    own = words if stage.name in (phase, TRAIN) else (*words, stage.name)
    return torch.Generator().manual_seed(_seed(seed, *own))


def round_noise(seed: int, words: tuple[str | int, ...]) -> int:
    """What an algorithm's own noise is seeded with as a round begins."""
    return _seed(seed, *words, "noise")


def passes(stage: Stage, settings: Mapping[str, Any]) -> int:
    """How often a stage goes through the training cases."""
    return int(settings["local_epochs"]) if stage.epochs is None else stage.epochs


def full_batch(settings: Mapping[str, Any], cases: Cases) -> int:
    """How many cases a step stands for. A shorter batch counts by its share, so that cases count alike.

    A whole step on the one case left over at the end of a pass throws a small site's model off: PFLlib drops
    such batches. Ditto on digits lost 7 points in every tenth round so.
    """
    return min(int(settings["batch_size"]), len(cases.y))


def shuffled(
    cases: Cases, settings: Mapping[str, Any], order: torch.Generator, device: torch.device = CPU
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass in batches. Rows are gathered for many batches at once, up to 64 MiB of them, and then moved.

    The order is drawn on the CPU, so the batches are the same on every device; a GPU never holds all cases.
    """
    size, mode = int(settings["batch_size"]), settings["augmentation"]
    row_bytes = max(cases.x[:1].numel() * cases.x.element_size(), 1)
    many = max(GATHER_BYTES // row_bytes // size, 1) * size
    for rows in torch.split(torch.randperm(len(cases.y), generator=order), many):
        x_rows, y_rows = cases.x[rows].to(device), cases.y[rows].to(device)
        if x_rows.dim() == IMAGES:
            x_rows = x_rows.contiguous(memory_format=torch.channels_last)
        for x, y in zip(torch.split(x_rows, size), torch.split(y_rows, size), strict=True):
            yield augment(x, mode, order), y


def make_step(groups: list[dict[str, Any]], settings: Mapping[str, Any], progress: float) -> Step:
    """One step of a new optimiser over ``groups``; it removes the gradients.

    Of a group, ``rate`` multiplies the learning rate, and ``pull`` μ adds μ/2 · ‖params − ``towards``‖² to
    the objective, with ``towards`` as it is now. The pull's gradient is added here and not by autograd, which
    took as long as a small network itself; so it is not in the reported loss, not clipped, needs no noise.
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
    pulls = [_Pull(group) for group in groups if group.get("pull")]
    if settings["optimiser"] == "sgd":
        return partial(_sgd_step, ready, pulls)
    adam = torch.optim.Adam(ready, fused=True)

    def step() -> None:
        for pull in pulls:
            pull.add()
        adam.step()
        adam.zero_grad()

    return step


class _Pull:
    """The gradient of μ/2 · ‖params − towards‖²."""

    def __init__(self, group: Mapping[str, Any]) -> None:
        self._strength, self._params = group["pull"], list(group["params"])
        self._towards = [target.detach().clone() for target in group["towards"]]

    @torch.no_grad()
    def add(self) -> None:
        both = zip(self._params, self._towards, strict=True)
        held = [(parameter, target) for parameter, target in both if parameter.grad is not None]
        distances = torch._foreach_sub([parameter for parameter, _ in held], [target for _, target in held])
        torch._foreach_add_([parameter.grad for parameter, _ in held], distances, alpha=self._strength)


@torch.no_grad()
def _sgd_step(groups: list[dict[str, Any]], pulls: list[_Pull]) -> None:
    for pull in pulls:
        pull.add()
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
