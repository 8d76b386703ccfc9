"""What the local loop trains on, and what it did."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Cases:
    """A part of a data set as tensors: input and position in the label list, one row per case.

    ``patient_N``: a number for each row's patient, from 0; only training with privacy for patients reads it.
    """

    x: Tensor
    y: Tensor
    patient_N: Tensor | None = None


@dataclass(frozen=True)
class Trained:
    """What a round of local training did. ``loss_sum`` is Σ over the ``cases`` seen, in ``steps`` steps."""

    loss_sum: float
    cases: int
    steps: int
