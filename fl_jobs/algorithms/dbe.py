"""DBE: a personal offset in feature space, and a pull of each site's mean feature to the common one.

Zhang et al., "Eliminating Domain Bias for Federated Learning in Representation Space", NeurIPS 2023,
arXiv:2311.14975. Deviations, on purpose: the one-off common mean is the exact mean over all cases at the
end of that phase (the authors' moving average starts at zero and is scaled down on small sites); a site
that joins late starts with the offset zero. Shape suffixes: B = batch, K = feature, C = class.
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
    own_mean_K: Tensor

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        features = model.head.in_features
        self.offset_K = nn.Parameter(torch.zeros(features))
        # a public constant after its phase, and what makes it; in no model part, so not persistent
        self.register_buffer("common_mean_K", torch.zeros(features), persistent=False)
        self.register_buffer("own_mean_K", torch.zeros(features), persistent=False)

    def phases(self) -> tuple[str, ...]:
        return (FEATURE_MEAN, TRAIN)

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": trainable(self.base, self.head)}]
        if stage == TRAIN:
            groups.append({"params": [self.offset_K], "rate": self.hyper_parameters["offset_rate"]})
        return groups

    def end_round(self, batches: Batches) -> None:
        """In the first phase: the mean feature of all training cases, by the model as it has become.

        A mean over the phase's own batches, while features still grow, holds later ones small: with κ 50 that
        cost a point of accuracy on digits.
        """
        if self.phase == FEATURE_MEAN:
            self.own_mean_K = self._mean_feature(batches)

    @torch.no_grad()
    def _mean_feature(self, batches: Batches) -> Tensor:
        sum_K, cases = torch.zeros_like(self.own_mean_K, dtype=torch.float64), 0
        self.eval()
        for x, y_B in batches:
            sum_K += self.base(self.scaler(x)).double().sum(dim=0)
            cases += len(y_B)
        return (sum_K / max(cases, 1)).float()

    def forward(self, x: Tensor) -> Tensor:
        logits_BC: Tensor = self.head(self.base(self.scaler(x)) + self.offset_K)
        return logits_BC

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        features_BK = self.run(self.base, self.scaler(x))
        if self.phase == FEATURE_MEAN:
            return self.cross_entropy(self.head(features_BK), y_B)
        fit = self.cross_entropy(self.head(features_BK + self.offset_K), y_B)
        # The batch mean (momentum 1 in the authors' code), before the offset; half the mean over K.
        drift_K = features_BK.mean(dim=0) - self.common_mean_K
        loss: Tensor = fit + self.hyper_parameters["kappa"] * 0.5 * drift_K.square().mean()
        return loss

    def sums(self) -> dict[str, tuple[Tensor, Lane]]:
        if self.phase == FEATURE_MEAN:
            return {FEATURE_MEAN: (self.own_mean_K, "samples")}
        return super().sums()

    def receive(self, phase: str, aggregate: Mapping[str, Tensor]) -> None:
        if phase != FEATURE_MEAN:
            super().receive(phase, aggregate)
            return
        mean_K = aggregate.get(FEATURE_MEAN)
        if mean_K is None or mean_K.shape != self.common_mean_K.shape:
            raise SharedStateError("The common feature mean does not fit this model. Start the run again.")
        self.common_mean_K.copy_(mean_K)
