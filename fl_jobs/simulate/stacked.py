"""Local training of many small sites in one pass: their weights stacked, one step for all of them.

Every site sees the batches it would see alone, in the same order; what comes out differs by rounding only.
A site with fewer steps is done earlier. Where the last batch is short it is padded: the loss of a padded
case is ignored. Where the loss is not a mean over cases, batches of one size go together instead.
Shape suffixes: S = site, B = batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm, Stage
from fl_jobs.simulate.layout import ManySites, channels_last
from fl_jobs.split_model import Scaler
from fl_jobs.training import MIXED, Cases, Step, Trained, full_batch, make_step, order_of, passes, shuffled

# algorithms whose rounds begin alike at all sites and whose loss is a mean over cases
BY_CASE = frozenset({"fedavg", "local_only", "fedper", "fedrep", "lg_fedavg", "fedprox", "fedbn", "ditto"})
BY_BATCH = frozenset({"dbe"})  # the batch's mean feature is in the loss
IGNORED = -100  # a label without a loss, torch's own
LAYERS = (
    nn.Linear, nn.Conv2d, nn.ReLU, nn.PReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Flatten,
    nn.GroupNorm, nn.LayerNorm, nn.Identity, Scaler,
)  # fmt: skip
CONVOLUTION = 5  # dimensions of stacked filters
State = dict[str, Tensor]


@dataclass(frozen=True)
class SiteWork:
    """One site before a round: the model as loaded, its cases, and the words its order is drawn with."""

    state: State
    cases: Cases
    words: tuple[str | int, ...]


def can_stack(name: str, algorithm: PersonalAlgorithm) -> bool:
    """Whether sites of this algorithm and model can train together.

    Not with running statistics, dropout, class weights, mixed precision, or a round that begins differently
    at each site. The simulator computes on the CPU.
    """
    leaves = [module for module in algorithm.modules() if not any(module.children())]
    known = all(isinstance(leaf, LAYERS) or _is_idle_dropout(leaf) for leaf in leaves)
    settings = algorithm.hyper_parameters
    plain = settings["class_weights"] == "none" and settings["precision"] != MIXED
    affine = all(leaf.affine for leaf in leaves if isinstance(leaf, nn.GroupNorm))
    return name in BY_CASE | BY_BATCH and known and plain and affine


def train_stacked(
    name: str,
    algorithm: PersonalAlgorithm,
    works: Sequence[SiteWork],
    *,
    seed: int,
    progress: float = 0.0,
) -> list[tuple[State, Trained]]:
    """One round of "train" at every site of ``works``; return each site's state after it and what was done.

    ``algorithm`` is the arm's model; its weights are overwritten. The caller runs ``end_round``.
    """
    algorithm.phase, algorithm.class_weight_C = TRAIN, None
    algorithm.load_state_dict(works[0].state)
    algorithm.train()
    algorithm.begin_round(())
    stack = {key: torch.stack([work.state[key] for work in works]) for key in works[0].state}
    totals = [Trained(0.0, 0, 0)] * len(works)
    for stage in algorithm.stages():
        done = _Stage(name, algorithm, stage, stack, works).run(seed, progress)
        totals = [_added(one, other) for one, other in zip(totals, done, strict=True)]
    rows = ({key: value[place] for key, value in stack.items()} for place in range(len(works)))
    return list(zip(rows, totals, strict=True))


class _Loss(nn.Module):
    def __init__(self, algorithm: PersonalAlgorithm) -> None:
        super().__init__()
        self.algorithm = algorithm

    def forward(self, x: Tensor, y_B: Tensor) -> Tensor:
        return self.algorithm.loss(x, y_B)


class _Stage:
    """One stage of a round, for all sites. ``stack`` is changed in place."""

    def __init__(
        self, name: str, algorithm: PersonalAlgorithm, stage: Stage, stack: State, works: Sequence[SiteWork]
    ) -> None:
        self._by_batch, self._algorithm, self._stage = name in BY_BATCH, algorithm, stage
        self._stack, self._works = stack, works
        self._settings = algorithm.hyper_parameters
        self._size = int(self._settings["batch_size"])
        self._loss = _Loss(algorithm)
        algorithm.stage = stage.name

    def run(self, seed: int, progress: float) -> list[Trained]:
        repeats = passes(self._stage, self._settings)
        counts = [-(-len(work.cases.y) // self._size) * repeats for work in self._works]
        ranked = sorted(range(len(counts)), key=lambda place: -counts[place])
        held = {key: value[ranked] for key, value in self._stack.items()}
        self._held = {key: channels_last(v) if v.dim() == CONVOLUTION else v for key, v in held.items()}
        step, trained = self._make_step(progress)
        batches = [self._batches(self._works[place], seed) for place in ranked]
        sums = torch.zeros(len(ranked), dtype=torch.float64)
        full_S = torch.tensor([full_batch(self._settings, self._works[place].cases) for place in ranked])
        alive = len(ranked)
        for number in range(max(counts)):
            while counts[ranked[alive - 1]] <= number:
                alive -= 1
                self._keep(alive, ranked[alive])
            sums[:alive] += self._one_step([next(own) for own in batches[:alive]], full_S, step, trained)
        for place in range(alive):
            self._keep(place, ranked[place])
        cases = [len(work.cases.y) * repeats for work in self._works]
        by_site = dict(zip(ranked, sums.tolist(), strict=True))
        return [Trained(by_site[i], cases[i], counts[i]) for i in range(len(counts))]

    def _make_step(self, progress: float) -> tuple[Step, list[Tensor]]:
        names = {id(parameter): key for key, parameter in self._algorithm.named_parameters()}
        groups: list[dict[str, Any]] = []
        trained: list[Tensor] = []
        for group in self._algorithm.param_groups(self._stage.name):
            own = [self._held[names[id(p)]].requires_grad_() for p in group["params"]]
            towards = [self._held[names[id(p)]] for p in group.get("towards", ())]
            trained += own
            groups.append({**group, "params": own, "towards": towards})
        return make_step(groups, self._settings, progress), trained

    def _batches(self, work: SiteWork, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = order_of(self._stage, TRAIN, seed, work.words)
        repeats = range(passes(self._stage, self._settings))
        return chain.from_iterable(shuffled(work.cases, self._settings, order) for _ in repeats)

    def _one_step(
        self, batches: list[tuple[Tensor, Tensor]], full_S: Tensor, step: Step, trained: list[Tensor]
    ) -> Tensor:
        """Returns loss × cases of the sites that are not done."""
        sizes = [len(y) for _, y in batches]
        if self._by_batch:
            losses_S = torch.zeros(len(batches))
            for size in sorted(set(sizes)):
                chosen = [place for place, own in enumerate(sizes) if own == size]
                found = self._losses(chosen, [batches[place] for place in chosen])
                losses_S = losses_S.index_add(0, torch.tensor(chosen), found)
        else:
            losses_S = self._losses(list(range(len(batches))), batches)
        sizes_S = torch.tensor(sizes)
        (losses_S * (sizes_S / full_S[: len(sizes)])).sum().backward()  # type: ignore[no-untyped-call]
        if limit := float(self._settings["clip_norm"]):
            _clip(trained, limit)
        step()
        return losses_S.detach().double() * sizes_S

    def _losses(self, chosen: list[int], batches: list[tuple[Tensor, Tensor]]) -> Tensor:
        x_SB, y_SB = _padded(batches)
        total = len(self._works)
        together = chosen == list(range(len(chosen)))
        held = {
            f"algorithm.{key}": (v if len(chosen) == total else v[: len(chosen)]) if together else v[chosen]
            for key, v in self._held.items()
        }
        with ManySites():
            losses_S: Tensor = vmap(self._one_loss, randomness="different")(held, x_SB, y_SB)
        return losses_S

    def _one_loss(self, state: Mapping[str, Tensor], x: Tensor, y_B: Tensor) -> Tensor:
        loss: Tensor = functional_call(self._loss, dict(state), (x, y_B))
        return loss

    def _keep(self, row: int, place: int) -> None:
        """Write a site that is done back; its row goes on moving, unread."""
        with torch.no_grad():
            for key, value in self._held.items():
                self._stack[key][place] = value[row]


def _padded(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    longest = max(len(y) for _, y in batches)
    if all(len(y) == longest for _, y in batches):
        return torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches])
    x_SB = batches[0][0].new_zeros((len(batches), longest, *batches[0][0].shape[1:]))
    y_SB = torch.full((len(batches), longest), IGNORED)
    for place, (x, y) in enumerate(batches):
        x_SB[place, : len(y)] = x
        y_SB[place, : len(y)] = y
    return x_SB, y_SB


def _clip(trained: list[Tensor], limit: float) -> None:
    """Each site's own gradient is held at ``limit``, as torch's clip_grad_norm_ does for one."""
    grads = [parameter.grad for parameter in trained if parameter.grad is not None]
    norm_S = torch.stack([grad.flatten(1).square().sum(dim=1) for grad in grads]).sum(dim=0).sqrt()
    factor_S = (limit / (norm_S + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor_S.view(-1, *[1] * (grad.dim() - 1)))


def _added(one: Trained, other: Trained) -> Trained:
    return Trained(one.loss_sum + other.loss_sum, one.cases + other.cases, one.steps + other.steps)


def _is_idle_dropout(module: nn.Module) -> bool:
    return isinstance(module, nn.Dropout) and module.p == 0
