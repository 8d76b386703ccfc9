"""FedALA: each site mixes the common head into its own, entry by entry, before it goes on learning.

Zhang et al., "FedALA: Adaptive Local Aggregation for Personalized Federated Learning", AAAI 2023,
arXiv:2212.01197, algorithm 1, with the head (weight and bias) as the adaptive layers. Deviations, on purpose:
the cases the mixture is learned on are spread evenly over the site's data instead of one random window, so
that data sorted by label are no trouble; the passes of the first time have a limit (the authors' loop has
none); between rounds the model answers with the mixture learned last. Shape suffixes: B = batch, K = feature,
C = class.
"""

import copy
import math
import statistics
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fl_jobs.algorithms.base import Batches, PersonalAlgorithm
from fl_jobs.algorithms.parts import trainable
from fl_jobs.split_model import SplitModel

STEADY_PASSES, STEADY_STD = 10, 0.1  # the authors' rule for the end of the first time


class FedALA(PersonalAlgorithm):
    """``own + (common − own) ⊙ mix`` is where a round starts; the trained head leaves, own copy and mix stay.

    ``mixing_rate`` 0 leaves the mixture at 1 and is FedAvg.
    """

    mix_CK: Tensor
    mix_C: Tensor
    joined_1: Tensor  # 1 once the site has a head of its own from training

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        self.own_head = copy.deepcopy(model.head)
        self.register_buffer("mix_CK", torch.ones_like(model.head.weight, requires_grad=False))
        self.register_buffer("mix_C", torch.ones_like(model.head.bias, requires_grad=False))
        self.register_buffer("joined_1", torch.zeros(1))

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        del stage
        return [{"params": trainable(self.base, self.head)}]

    def begin_round(self, batches: Batches) -> None:
        if not self.joined_1.item():
            return
        self.learn_mixture(batches)
        weight_CK, bias_C = self.mixture()
        with torch.no_grad():
            self.head.weight.copy_(weight_CK)
            self.head.bias.copy_(bias_C)

    def end_round(self, batches: Batches) -> None:
        del batches
        self.own_head.load_state_dict(self.head.state_dict())
        self.joined_1.fill_(1.0)

    def mixture(self) -> tuple[Tensor, Tensor]:
        """Weight and bias between own (mix 0) and common head (mix 1). No gradient."""
        own_CK, own_C = self.own_head.weight.detach(), self.own_head.bias.detach()
        weight_CK = torch.lerp(own_CK, self.head.weight.detach(), self.mix_CK)
        return weight_CK, torch.lerp(own_C, self.head.bias.detach(), self.mix_C)

    def learn_mixture(self, batches: Batches) -> None:
        """Descend on the mixture under the common base, whose features are computed once."""
        share = float(self.hyper_parameters["mixing_share"])
        self.base.eval()  # so that no running statistic moves
        with torch.no_grad():
            window = [
                (self.base(self.scaler(x)), y_B)
                for place, (x, y_B) in enumerate(batches)
                if math.ceil((place + 1) * share) > math.ceil(place * share)
            ]
        self.base.train()
        untouched = bool((self.mix_CK == 1).all() and (self.mix_C == 1).all())
        losses: list[float] = []
        for _ in range(int(self.hyper_parameters["mixing_passes"]) if untouched else 1):
            last = [self.mixture_step(features_BK, y_B) for features_BK, y_B in window][-1]
            losses.append(last)
            recent = losses[-STEADY_PASSES:]
            if len(recent) == STEADY_PASSES and statistics.stdev(recent) < STEADY_STD:
                break

    def mixture_step(self, features_BK: Tensor, y_B: Tensor) -> float:
        """``mix ← clip(mix − η · ∂L/∂head ⊙ (common − own), 0, 1)``; return the loss before."""
        weight_CK, bias_C = (part.requires_grad_() for part in self.mixture())
        loss = self.cross_entropy(functional.linear(features_BK, weight_CK, bias_C), y_B)
        by_weight_CK, by_bias_C = torch.autograd.grad(loss, (weight_CK, bias_C))
        rate = float(self.hyper_parameters["mixing_rate"])
        with torch.no_grad():
            self.mix_CK.sub_(rate * by_weight_CK * (self.head.weight - self.own_head.weight)).clamp_(0, 1)
            self.mix_C.sub_(rate * by_bias_C * (self.head.bias - self.own_head.bias)).clamp_(0, 1)
        return float(loss.detach())

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        return functional.linear(self.base(self.scaler(x)), *self.mixture())

    def receive(self, phase: str, aggregate: Mapping[str, Tensor]) -> None:
        super().receive(phase, aggregate)
        if not self.joined_1.item():
            self.own_head.load_state_dict(self.head.state_dict())
