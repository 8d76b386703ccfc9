"""What an algorithm must say: what leaves the site, what it minimises, how sums become an aggregate."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from fl_jobs.aggregation import Fold, fold_mean
from fl_jobs.algorithms.parts import Parts
from fl_jobs.errors import SharedStateError
from fl_jobs.packaging.spec import Lane
from fl_jobs.split_model import SplitModel, run_base

TRAIN = "train"
Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Stage:
    """One part of a site's round. ``epochs`` None: as many passes as the run says."""

    name: str
    epochs: int | None = None


class PersonalAlgorithm(Parts):
    """A split model and one algorithm's parts; the loop sets phase, stage, mixed and class_weight_C."""

    fold: ClassVar[Fold] = staticmethod(fold_mean)  # the catalog names it for the torch-free server

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.base, self.head, self.scaler = model.base, model.head, model.scaler
        self.hyper_parameters = hyper_parameters
        self.phase, self.stage, self.mixed = TRAIN, TRAIN, False
        self.class_weight_C: Tensor | None = None

    def phases(self) -> tuple[str, ...]:
        """One-off phases in order, then "train"."""
        return (TRAIN,)

    def stages(self) -> tuple[Stage, ...]:
        """The parts of a round of the current phase, in order; each has an optimiser of its own."""
        return (Stage(self.phase),)

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        """Groups for ``make_step``: ``rate``, ``pull`` and ``towards`` stand there. Others are frozen."""
        del stage
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def begin_round(self, batches: Batches) -> None:
        """Run after the aggregate is loaded, before local training; ``batches`` are all training cases."""

    def end_round(self, batches: Batches) -> None:
        """Run after local training, before anything leaves or is kept."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits_BC; in eval mode the same input gives the same output."""
        return self.head(self.run(self.base, self.scaler(x)))  # type: ignore[no-any-return]

    def run(self, base: nn.Module, scaled: Tensor) -> Tensor:  # for ``loss``; hooks call the base itself
        return run_base(base, scaled, mixed=self.mixed and self.training)

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        """Return the scalar that local training minimises."""
        return self.cross_entropy(self(x), y_B)

    def cross_entropy(self, logits_BC: Tensor, y_B: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits_BC, y_B, weight=self.class_weight_C)

    def sums(self) -> dict[str, tuple[Tensor, Lane]]:
        """What leaves in the current phase: value and the lane it is weighted with."""
        return self.shared_sums()

    def receive(self, phase: str, aggregate: Mapping[str, Tensor]) -> None:
        """Load the aggregate of a phase. Raises SharedStateError unless it fits exactly."""
        if phase != TRAIN:
            raise SharedStateError(f"This algorithm has no phase “{phase}”. Submit the run again.")
        self.load_shared(aggregate)
