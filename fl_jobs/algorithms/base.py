"""What an algorithm must say: what leaves the site, what it minimises, how sums become an aggregate."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from fl_jobs.aggregation import Fold, fold_mean
from fl_jobs.errors import SharedStateError
from fl_jobs.packaging.spec import Lane
from fl_jobs.split_model import SplitModel

TRAIN = "train"


class PersonalAlgorithm(nn.Module):
    """A split model together with one algorithm's extra parts.

    Floating-point tensors under ``shared_prefixes`` leave the site. All others belong to the site and are
    written to its own disk only. ``phase`` is set by the loop before a phase begins.
    """

    shared_prefixes: ClassVar[tuple[str, ...]] = ("base.", "head.")
    fold: ClassVar[Fold] = staticmethod(fold_mean)  # the catalog names it for the torch-free server

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, float]) -> None:
        super().__init__()
        self.base, self.head, self.scaler = model.base, model.head, model.scaler
        self.hyper_parameters = hyper_parameters
        self.phase = TRAIN

    def phases(self) -> tuple[str, ...]:
        """One-off phases in order, then "train"."""
        return (TRAIN,)

    def param_groups(self, phase: str) -> list[dict[str, Any]]:
        """Groups for the optimiser; ``rate`` multiplies the learning rate of a group."""
        del phase
        return [{"params": [p for p in self.parameters() if p.requires_grad], "rate": 1.0}]

    def begin_round(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Run after the aggregate is loaded, before local training; ``batches`` are all training cases."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits_BC; in eval mode the same input gives the same output."""
        logits_BC: Tensor = self.head(self.base(self.scaler(x)))
        return logits_BC

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        """Return the scalar that local training minimises."""
        return functional.cross_entropy(self(x), y_B)

    def sums(self) -> dict[str, tuple[Tensor, Lane]]:
        """What leaves in the current phase: value and the lane it is weighted with."""
        return {name: (value, "samples") for name, value in self.shared_state().items()}

    def receive(self, phase: str, aggregate: Mapping[str, Tensor]) -> None:
        """Load the aggregate of a phase. Raises SharedStateError unless names and shapes agree exactly."""
        expected = self.shared_state()
        if phase != TRAIN or {n: v.shape for n, v in expected.items()} != {
            n: v.shape for n, v in aggregate.items()
        }:
            raise SharedStateError(
                "The aggregate does not fit this model. Start the run again from its start."
            )
        self.load_state_dict(dict(aggregate), strict=False)

    def shared_state(self) -> dict[str, Tensor]:
        """A view of the tensors that leave the site in "train"."""
        return {k: v for k, v in self.state_dict().items() if self._is_shared(k, v)}

    def personal_state(self) -> dict[str, Tensor]:
        """A view of the tensors that stay at the site; together with the shared ones they are the model."""
        return {k: v for k, v in self.state_dict().items() if not self._is_shared(k, v)}

    def _is_shared(self, name: str, value: Tensor) -> bool:
        return name.startswith(self.shared_prefixes) and value.is_floating_point()
