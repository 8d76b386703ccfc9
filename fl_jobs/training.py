"""The one local loop: every arm of every algorithm goes through it with the same cases in the same order."""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fl_jobs.algorithms.base import TRAIN, Batches, PersonalAlgorithm, Stage
from fl_jobs.augmentation import augment
from fl_jobs.cases import Cases, Trained
from fl_jobs.errors import FLJobError
from fl_jobs.private_steps import PrivateSteps, SealedBatches

__all__ = ("Cases", "Trained", "train_phase")


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
    private: PrivateSteps | None = None,
) -> Trained:
    """Train in place for one round of ``phase``; steps depend on the number of cases only, not on the arm.

    The order of the cases follows from ``seed`` and ``words`` (site, round), so arms see the same batches;
    an algorithm's own noise is drawn from another stream. ``progress`` (0 to 1) is the share of the run's
    rounds done before, for the schedule. Optimisers are new in each round: a resumed run equals an
    uninterrupted one. With ``private`` every step is noised and samples patients by itself, so nothing is
    repeatable, and hooks of the algorithm may not read the cases. Raises FLJobError when the loss is not
    finite.
    """
    settings = algorithm.hyper_parameters
    batches: Batches = _Batches(cases, int(settings["batch_size"])) if private is None else SealedBatches()
    algorithm.phase = phase
    algorithm.class_weight_C = _class_weights(cases.y, algorithm.head.out_features, settings)
    algorithm.train()
    algorithm.begin_round(batches)
    done: list[Trained] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(seed, *words, "noise"))
        for stage in algorithm.stages():
            own = words if stage.name in (phase, TRAIN) else (*words, stage.name)
            order = torch.Generator().manual_seed(_seed(seed, *own))
            done.append(_train_stage(algorithm, stage, cases, order, progress, private))
    algorithm.end_round(batches)
    result = Trained(sum(t.loss_sum for t in done), sum(t.cases for t in done), sum(t.steps for t in done))
    if not math.isfinite(result.loss_sum):
        raise FLJobError(
            "Training diverged: the loss is not finite. Lower the learning rate and start again."
        )
    return result


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
    optimiser = _optimiser(groups, algorithm.hyper_parameters, progress)
    if private is None:
        result = _plain_steps(algorithm, stage, cases, order, optimiser)
    else:
        result = private.take(algorithm, cases, order, optimiser)
    for parameter, flag in flags.items():
        parameter.requires_grad_(flag)
    return result


def _plain_steps(
    algorithm: PersonalAlgorithm,
    stage: Stage,
    cases: Cases,
    order: torch.Generator,
    optimiser: torch.optim.Optimizer,
) -> Trained:
    settings = algorithm.hyper_parameters
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    size, limit, mode = int(settings["batch_size"]), float(settings["clip_norm"]), settings["augmentation"]
    losses: list[Tensor] = []
    epochs = int(settings["local_epochs"]) if stage.epochs is None else stage.epochs
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(cases.y), generator=order), size):
            loss = algorithm.loss(augment(cases.x[rows], mode, order), cases.y[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if limit:
                torch.nn.utils.clip_grad_norm_(trained, limit)
            optimiser.step()
            losses.append(loss.detach() * len(rows))
    return Trained(
        float(torch.stack(losses).double().sum()) if losses else 0.0, epochs * len(cases.y), len(losses)
    )


def _optimiser(groups: list[dict[str, Any]], settings: Any, progress: float) -> torch.optim.Optimizer:
    rate = float(settings["learning_rate"])
    if settings["schedule"] == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * progress))
    ready = [
        {
            "params": group["params"],
            "lr": rate * group.get("rate", 1.0),
            "weight_decay": group.get("weight_decay", float(settings["weight_decay"])),
        }
        for group in groups
    ]
    if settings["optimiser"] == "sgd":
        return torch.optim.SGD(ready, fused=True)
    return torch.optim.Adam(ready)


def _class_weights(y: Tensor, classes: int, settings: Any) -> Tensor | None:
    """Cases ÷ (labels present × cases of the label), as scikit-learn balances; None for equal weights."""
    if settings["class_weights"] != "balanced":
        return None
    counts_C = torch.bincount(y, minlength=classes).float()
    return torch.where(counts_C > 0, len(y) / ((counts_C > 0).sum() * counts_C.clamp(min=1)), 0.0)


def _seed(seed: int, *words: str | int) -> int:
    text = "\n".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
