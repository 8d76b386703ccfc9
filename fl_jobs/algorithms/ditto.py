"""Ditto: FedAvg, and beside it a model of the site's own that is drawn to the common one.

Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021, arXiv:2012.04221,
algorithm 1: vₖ minimises Fₖ(v) + λ/2 · ‖v − wᵗ‖². The own model learns first, while the common one is still
as received. Deviation: a site that joins late starts its own model from the common one, not from scratch.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fl_jobs.algorithms.base import TRAIN, Batches, PersonalAlgorithm, Stage
from fl_jobs.algorithms.parts import trainable
from fl_jobs.split_model import SplitModel

OWN = "own"


class Ditto(PersonalAlgorithm):
    """The common model leaves; the own one answers. ``own_pull`` (λ) 0 makes the own model local-only."""

    joined_1: Tensor  # 1 once the site has an own model from training

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        self.own_base, self.own_head = copy.deepcopy(model.base), copy.deepcopy(model.head)
        self.register_buffer("joined_1", torch.zeros(1))

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(OWN), Stage(TRAIN))

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        if stage != OWN:
            return [{"params": trainable(self.base, self.head)}]
        both = zip(
            (*self.own_base.parameters(), *self.own_head.parameters()),
            (*self.base.parameters(), *self.head.parameters()),
            strict=True,
        )
        pairs = [(own, common) for own, common in both if own.requires_grad]  # the common one may be frozen
        return [
            {
                "params": [own for own, _ in pairs],
                "pull": self.hyper_parameters["own_pull"],
                "towards": [common for _, common in pairs],
            }
        ]

    def end_round(self, batches: Batches) -> None:
        del batches
        self.joined_1.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.stage != OWN:
            return super().forward(x)
        logits_BC: Tensor = self.own_head(self.run(self.own_base, self.scaler(x)))
        return logits_BC

    def receive(self, phase: str, aggregate: Mapping[str, Tensor]) -> None:
        super().receive(phase, aggregate)
        if not self.joined_1.item():
            self.own_base.load_state_dict(self.base.state_dict())
            self.own_head.load_state_dict(self.head.state_dict())
