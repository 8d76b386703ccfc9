"""FedProx: FedAvg with a pull of the local model to the one received.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127, equation (2):
the local objective is the loss plus μ/2 · ‖w − wᵗ‖². The inexact solver is the run's own loop.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fl_jobs.algorithms.base import Batches, PersonalAlgorithm
from fl_jobs.split_model import SplitModel


class FedProx(PersonalAlgorithm):
    """Base and head are shared. ``prox_pull`` (μ) 0 is FedAvg."""

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        self.received: tuple[Tensor, ...] = ()  # wᵗ for one round, in no model part

    def begin_round(self, batches: Batches) -> None:
        del batches
        self.received = tuple(parameter.detach().clone() for parameter in self.parameters())

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        fit = super().loss(x, y_B)
        if not self.hyper_parameters["prox_pull"] or not self.received:
            return fit
        pairs = zip(self.parameters(), self.received, strict=True)
        distance = torch.stack([(now - then).square().sum() for now, then in pairs]).sum()
        pulled: Tensor = fit + 0.5 * self.hyper_parameters["prox_pull"] * distance
        return pulled
