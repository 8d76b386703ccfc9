"""GPFL and DBE as their authors' code does them where ours deviates on purpose; for comparison only."""

from importlib import import_module

import torch
from torch.nn import functional

from fl_jobs.algorithms.dbe import DBE, FEATURE_MEAN
from fl_jobs.algorithms.gpfl import GPFL
from fl_jobs.catalog import ALGORITHMS


class AuthorsGPFL(GPFL):
    """Contexts come from the table as the site itself last trained it, and are zero in its first round.

    The site's is not divided by the number of labels.
    """

    def __init__(self, model, hyper_parameters):
        super().__init__(model, hyper_parameters)
        self.register_buffer("trained_CK", torch.zeros_like(self.embedding.weight))  # personal: stays

    def begin_round(self, batches):
        super().begin_round(batches)
        self.prior_C.mul_(len(self.prior_C))

    def end_round(self, batches):
        self.trained_CK.copy_(self.embedding.weight.detach())
        super().end_round(batches)

    def forward(self, x):
        return self.head(self.valve(self.base(self.scaler(x)), self.prior_C @ self.trained_CK))

    def loss(self, x, y_B):
        features_BK = self.base(self.scaler(x))
        personal_BK = self.valve(features_BK, self.prior_C @ self.trained_CK)
        common_BK = self.valve(features_BK, self.trained_CK.mean(dim=0))
        angles_BC = functional.normalize(common_BK) @ functional.normalize(self.embedding.weight).T
        fit = functional.cross_entropy(self.head(personal_BK), y_B) + functional.cross_entropy(angles_BC, y_B)
        distance = torch.linalg.vector_norm(common_BK - self.received_CK[y_B])
        return fit + self.hyper_parameters["embedding_pull"] * distance


class AuthorsDBE(DBE):
    """The common mean is that of each site's last batch of the phase, before its step (momentum 1)."""

    def loss(self, x, y_B):
        if self.phase == FEATURE_MEAN:
            self.own_mean_K = self.base(self.scaler(x)).detach().mean(dim=0)
        return super().loss(x, y_B)

    def end_round(self, batches):
        """Keep the last batch's mean."""


WAYS = {"gpfl": AuthorsGPFL, "dbe": AuthorsDBE}


def take(algorithm):
    """Let this process build the authors' way of ``algorithm``, if it has one here."""
    if algorithm in WAYS:
        module, _, name = ALGORITHMS[algorithm].path.partition(":")
        setattr(import_module(module), name, WAYS[algorithm])
