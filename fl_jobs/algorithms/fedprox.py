"""FedProx: FedAvg with a pull of the local model to the one received.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127, equation (2):
the local objective is the loss plus μ/2 · ‖w − wᵗ‖². The inexact solver is the run's own loop.
"""

from typing import Any

from fl_jobs.algorithms.base import PersonalAlgorithm


class FedProx(PersonalAlgorithm):
    """Base and head are shared. ``prox_pull`` (μ) 0 is FedAvg."""

    def param_groups(self, stage: str) -> list[dict[str, Any]]:
        pull = {"pull": self.hyper_parameters["prox_pull"]}
        return [group | pull | {"towards": group["params"]} for group in super().param_groups(stage)]
