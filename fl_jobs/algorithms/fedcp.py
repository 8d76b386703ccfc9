"""FedCP: each case's feature is divided between a personal and a common head by a learned gate.

Zhang et al., "FedCP: Separating Feature Information for Personalized Federated Learning via Conditional
Policy", KDD 2023, arXiv:2307.01217, algorithm 1. Deviations, on purpose: no Gumbel noise in eval (the
authors' model answers the same case differently from call to call); the context of the first round is that of
the initial head, not a random vector; a site that joins late starts with the common head. λ is 0.5: the
authors' 5 lost 2.8 points on small data. Shape suffixes: B = batch, K = feature, C = class.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fl_jobs.algorithms.base import Batches, PersonalAlgorithm
from fl_jobs.algorithms.parts import trainable
from fl_jobs.packaging.spec import Lane
from fl_jobs.split_model import SplitModel

BANDWIDTHS = (10.0, 15.0, 20.0, 50.0)


class FedCP(PersonalAlgorithm):
    """``head(r ⊙ h) + global_head((1 − r) ⊙ h)``, r from the gate; base, gate and common head are shared.

    ½·head + ½·global_head leaves as the new common head: together with the old one, which is public, it
    gives the personal head away, so it may leave under masks only. The gate holds 2K² + 6K numbers.
    """

    shared_prefixes = ("base.", "gate.", "global_head.")
    joined_1: Tensor  # 1 once the site has a head of its own from training

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        features = model.head.in_features
        self.gate = nn.Sequential(nn.Linear(features, 2 * features), nn.LayerNorm(2 * features), nn.ReLU())
        self.global_head = copy.deepcopy(model.head)
        self.register_buffer("joined_1", torch.zeros(1))
        # for one round and in no model part; a tuple, so that torch does not register the module
        self.received_base: tuple[nn.Module, ...] = ()
        self.round_context_K: Tensor | None = None

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        del stage
        return [{"params": trainable(self.base, self.head, self.gate)}]  # the common head stays as received

    def begin_round(self, batches: Batches) -> None:
        del batches
        self.round_context_K = self.context().clone()
        if self.hyper_parameters["mmd_weight"]:
            self.received_base = (copy.deepcopy(self.base).requires_grad_(False),)

    def end_round(self, batches: Batches) -> None:
        del batches
        self.joined_1.fill_(1.0)
        self.received_base, self.round_context_K = (), None

    def context(self) -> Tensor:
        """The sum of the personal head's rows: what the site looks for in a feature. No gradient."""
        return self.head.weight.detach().sum(dim=0)

    def personal_share(self, features_BK: Tensor) -> Tensor:
        """How much of each feature goes to the personal head, 0 to 1; with Gumbel noise in training only."""
        context_K = self.context() if self.round_context_K is None else self.round_context_K
        policy_BE = self.gate(features_BK * functional.normalize(context_K, dim=0))
        policy_B2K = policy_BE.view(len(features_BK), 2, -1)
        tau = float(self.hyper_parameters["tau"])
        if self.training:
            return functional.gumbel_softmax(policy_B2K, tau=tau, dim=1)[:, 0]
        return functional.softmax(policy_B2K / tau, dim=1)[:, 0]

    def answer(self, features_BK: Tensor) -> Tensor:
        own_BK = self.personal_share(features_BK) * features_BK
        logits_BC: Tensor = self.head(own_BK) + self.global_head(features_BK - own_BK)
        return logits_BC

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.base(self.scaler(x)))

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        scaled = self.scaler(x)
        features_BK = self.run(self.base, scaled)
        fit = self.cross_entropy(self.answer(features_BK), y_B)
        if not self.received_base:
            return fit
        with torch.no_grad():
            common_BK = self.run(self.received_base[0], scaled)
        distance: Tensor = fit + self.hyper_parameters["mmd_weight"] * mmd(features_BK, common_BK)
        return distance

    def sums(self) -> dict[str, tuple[Tensor, Lane]]:
        sums = super().sums()
        for name, value in self.head.state_dict().items():
            received, lane = sums[f"global_head.{name}"]
            sums[f"global_head.{name}"] = (0.5 * value + 0.5 * received, lane)
        return sums

    def receive(self, phase: str, aggregate: Mapping[str, Tensor]) -> None:
        super().receive(phase, aggregate)
        if not self.joined_1.item():
            self.head.load_state_dict(self.global_head.state_dict())


def mmd(one_BK: Tensor, other_BK: Tensor) -> Tensor:
    """Squared maximum mean discrepancy, biased: all B² pairs, the sum of four Gaussians of ``BANDWIDTHS``."""
    both = torch.cat([one_BK, other_BK])
    norms = both.square().sum(dim=1)
    squared = (norms[:, None] + norms[None, :] - 2 * both @ both.T).clamp(min=0.0)
    kernel = torch.stack([torch.exp(-squared / (2 * width)) for width in BANDWIDTHS]).sum(dim=0)
    count = len(one_BK)
    return (kernel[:count, :count] + kernel[count:, count:] - 2 * kernel[:count, count:]).mean()
