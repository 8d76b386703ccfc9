"""FedProto: sites with networks of their own agree on one mean feature (prototype) per label.

Tan et al., "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022,
arXiv:2105.00243, algorithm 1. Deviations, on purpose: prototypes are means over all training cases under the
trained network (the authors' code mixes states of the network); the mean over sites is plain and a label
counts only with ``prototype_cases`` cases at a site and at no fewer sites than a masked sum needs; a site
sends the mean of a label only after enough sites said in the round before that they have it, so that the sum
shows no site's mean alone (unless sites are lost in between). Shape suffixes: B = batch, K = feature,
C = class.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fl_jobs.aggregation import Fold, fold_prototypes
from fl_jobs.algorithms.base import Batches, PersonalAlgorithm
from fl_jobs.packaging.spec import Lane
from fl_jobs.split_model import SplitModel

NEVER = torch.finfo(torch.float32).min


class FedProto(PersonalAlgorithm):
    """The nearest prototype answers; nothing of the network leaves.

    ``owned_C`` is 0 where too few sites have a label, ½ once enough said so, 1 with a common prototype.
    A label without a common prototype is compared with the site's own mean, and cannot be the answer where
    there is neither. Before the first common prototype the head answers.
    """

    shared_prefixes = ("prototypes_CK", "owned_C")
    fold: ClassVar[Fold] = staticmethod(fold_prototypes)
    prototypes_CK: Tensor
    owned_C: Tensor
    own_CK: Tensor
    own_cases_C: Tensor

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        shape = (model.head.out_features, model.head.in_features)
        for name in ("prototypes_CK", "own_CK"):
            self.register_buffer(name, torch.zeros(shape))
        for name in ("owned_C", "own_cases_C"):
            self.register_buffer(name, torch.zeros(shape[0]))

    def end_round(self, batches: Batches) -> None:
        self.own_CK.zero_()
        self.own_cases_C.zero_()
        self.base.eval()  # as in prediction, and no running statistic moves
        with torch.no_grad():
            for x, y_B in batches:
                self.own_CK.index_add_(0, y_B, self.base(self.scaler(x)))
                self.own_cases_C += torch.bincount(y_B, minlength=len(self.own_cases_C))
        self.base.train()
        self.own_CK /= self.own_cases_C.clamp(min=1)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        features_BK: Tensor = self.base(self.scaler(x))
        logits_BC: Tensor
        common_C = self.owned_C == 1
        if self.training or not common_C.any():
            logits_BC = self.head(features_BK)
            return logits_BC
        table_CK = torch.where(common_C[:, None], self.prototypes_CK, self.own_CK)
        logits_BC = -(features_BK[:, None] - table_CK).square().sum(dim=2)
        return logits_BC.masked_fill(~(common_C | (self.own_cases_C > 0)), NEVER)

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        features_BK = self.run(self.base, self.scaler(x))
        fit = self.cross_entropy(self.head(features_BK), y_B)
        common_B1 = (self.owned_C[y_B] == 1)[:, None]
        target_BK = torch.where(common_B1, self.prototypes_CK[y_B], features_BK.detach())
        pulled: Tensor = fit + self.hyper_parameters["prototype_pull"] * functional.mse_loss(
            features_BK, target_BK
        )
        return pulled

    def sums(self) -> dict[str, tuple[Tensor, Lane]]:
        has_C = (self.own_cases_C >= self.hyper_parameters["prototype_cases"]).float()
        sent_C = has_C * (self.owned_C > 0)
        return {"prototypes_CK": (self.own_CK * sent_C[:, None], "one"), "owned_C": (has_C, "one")}
