"""GPFL: a common table of label embeddings guides the base; a valve gives each site its view of a feature.

Zhang et al., "GPFL: Simultaneously Learning Global and Personalized Feature Information for Personalized
Federated Learning", ICCV 2023, arXiv:2308.10279, algorithm 1. As the paper says and the authors' code does
not: contexts come from the table that arrived (the code: from the site's own, one round old, and zero in the
first round), and the site's is divided by the number of labels (equation 7): undivided, the random first
table drowns what the site has. Deviation, on purpose: the magnitude term is multiplied by √(10/B), which is
the authors' strength at their batch of 10 and the same strength at any other. Shape suffixes: B = batch,
K = feature, C = class.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fl_jobs.algorithms.base import Batches, PersonalAlgorithm
from fl_jobs.algorithms.parts import trainable
from fl_jobs.split_model import SplitModel

AUTHORS_BATCH = 10


class Valve(nn.Module):
    """``ReLU(h ⊙ (1 + γ(context)) + β(context))``: depends on the site, not on the case."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gamma, self.beta = (
            nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.LayerNorm(features)) for _ in range(2)
        )

    def forward(self, features_BK: Tensor, context_K: Tensor) -> Tensor:
        return torch.relu(features_BK * (1 + self.gamma(context_K)) + self.beta(context_K))


class GPFL(PersonalAlgorithm):
    """``head(valve(base(x), p))``, p = ``prior_C @ table``; head and label shares stay at the site.

    Rows of labels a site has no case of move in a way of their own: a single site's table would show which
    labels it has, so it should leave under masks. The valve holds 2K² + 6K numbers, the table C·K.
    """

    shared_prefixes = ("base.", "embedding.", "valve.")
    # each label's share of the site's training cases, ÷ number of labels; 0.3.0's models hold it undivided
    prior_C: Tensor

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        features, labels = model.head.in_features, model.head.out_features
        self.embedding = nn.Embedding(labels, features)
        self.valve = Valve(features)
        self.register_buffer("prior_C", torch.full((labels,), labels**-2.0))
        self.received_CK: Tensor | None = None  # the table as it arrived, for one round, in no model part

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        del stage
        decay = float(self.hyper_parameters["embedding_decay"])
        return [
            {"params": trainable(self.base, self.head)},
            {"params": trainable(self.embedding, self.valve), "weight_decay": decay},
        ]

    def begin_round(self, batches: Batches) -> None:
        labels, count = torch.cat([y_B for _, y_B in batches]), len(self.prior_C)
        self.prior_C.copy_(torch.bincount(labels, minlength=count) / len(labels) / count)
        self.received_CK = self.embedding.weight.detach().clone()

    def end_round(self, batches: Batches) -> None:
        del batches
        self.received_CK = None

    def table(self) -> Tensor:
        """The embeddings the contexts are made of: in a round as they arrived. No gradient."""
        return self.embedding.weight.detach() if self.received_CK is None else self.received_CK

    def forward(self, x: Tensor) -> Tensor:
        logits_BC: Tensor = self.head(self.valve(self.base(self.scaler(x)), self.prior_C @ self.table()))
        return logits_BC

    def loss(self, x: Tensor, y_B: Tensor) -> Tensor:
        table_CK = self.table()
        features_BK = self.run(self.base, self.scaler(x))
        personal_BK = self.valve(features_BK, self.prior_C @ table_CK)
        common_BK = self.valve(features_BK, table_CK.mean(dim=0))
        angles_BC = (
            functional.normalize(common_BK, dim=1) @ functional.normalize(self.embedding.weight, dim=1).T
        )
        distance = torch.linalg.vector_norm(common_BK - table_CK[y_B]) * (AUTHORS_BATCH / len(y_B)) ** 0.5
        fit = self.cross_entropy(self.head(personal_BK), y_B) + self.cross_entropy(angles_BC, y_B)
        guided: Tensor = fit + self.hyper_parameters["embedding_pull"] * distance
        return guided
