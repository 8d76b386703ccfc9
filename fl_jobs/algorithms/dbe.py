"""DBE: a personal offset in feature space, and a pull of each site's mean feature to the common one.

Zhang et al., "Eliminating Domain Bias for Federated Learning in Representation Space", NeurIPS 2023,
arXiv:2311.14975. Deviations, on purpose: the one-off common mean is the exact mean over all cases seen in
that phase (the authors' moving average starts at zero and is scaled down on small sites); a site that joins
late starts with the offset zero. Shape suffixes: B = batch, K = feature, C = class.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fl_jobs.algorithms.base import TRAIN, Batches, PersonalAlgorithm
from fl_jobs.algorithms.parts import trainable
from fl_jobs.errors import SharedStateError
from fl_jobs.packaging.spec import Lane
from fl_jobs.split_model import SplitModel

FEATURE_MEAN = "feature_mean"


class DBE(PersonalAlgorithm):
    """``head(base(x) + offset_K)``; the offset is trained by the cross-entropy only and never leaves.

    ``kappa`` 0 leaves only the offset; with ``offset_rate`` 0 as well this is FedAvg.
    """

    common_mean_K: Tensor
    seen_sum_K: Tensor

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        features = model.head.in_features
        self.offset_K = nn.Parameter(torch.zeros(features))
        # a public constant after its phase; like the sum it is in no model part, so not persistent
        self.register_buffer("common_mean_K", torch.zeros(features), persistent=False)
        self.register_buffer("seen_sum_K", torch.zeros(features, dtype=torch.float64), persistent=False)
        self.seen = 0

    def phases(self) -> tuple[str, ...]:
        return (FEATURE_MEAN, TRAIN)

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": trainable(self.base, self.head)}]
        if stage == TRAIN:
            groups.append({"params": [self.offset_K], "rate": self.hyper_parameters["offset_rate"]})
        return groups

    def begin_round(self, batches: Batches) -> None:
        del batches
        self.seen_sum_K.zero_()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        logits_BC: Tensor = self.head(self.base(self.scaler(x)) + self.offset_K)
        return logits_BC

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        features_BK = self.run(self.base, self.scaler(x))
        if self.phase == FEATURE_MEAN:
            self.seen_sum_K += features_BK.detach().double().sum(dim=0)
            self.seen += len(features_BK)
            return self.cross_entropy(self.head(features_BK), y_B)
        fit = self.cross_entropy(self.head(features_BK + self.offset_K), y_B)
        # The batch mean (momentum 1 in the authors' code), before the offset; half the mean over K.
        drift_K = features_BK.mean(dim=0) - self.common_mean_K
        loss: Tensor = fit + self.hyper_parameters["kappa"] * 0.5 * drift_K.square().mean()
        return loss

    def sums(self) -> dict[str, tuple[Tensor, Lane]]:
        if self.phase == FEATURE_MEAN:
            return {FEATURE_MEAN: ((self.seen_sum_K / max(self.seen, 1)).float(), "samples")}
        return super().sums()

    def receive(self, phase: str, aggregate: Mapping[str, Tensor]) -> None:
        if phase != FEATURE_MEAN:
            super().receive(phase, aggregate)
            return
        mean_K = aggregate.get(FEATURE_MEAN)
        if mean_K is None or mean_K.shape != self.common_mean_K.shape:
            raise SharedStateError("The common feature mean does not fit this model. Start the run again.")
        self.common_mean_K.copy_(mean_K)
