"""FedRep: a common base under each site's own head; first the head is fitted, then the base under it.

Collins et al., "Exploiting Shared Representations for Personalized Federated Learning", ICML 2021,
arXiv:2102.07078, algorithm 1. The base takes the run's passes per round (the authors' default is one).
"""

from typing import Any

from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm, Stage
from fl_jobs.algorithms.parts import trainable

HEAD = "head"


class FedRep(PersonalAlgorithm):
    """Base shared, head personal; each is frozen while the other learns."""

    shared_prefixes = ("base.",)

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(HEAD, int(self.hyper_parameters["head_epochs"])), Stage(TRAIN))

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        return [{"params": trainable(self.head if stage == HEAD else self.base)}]
