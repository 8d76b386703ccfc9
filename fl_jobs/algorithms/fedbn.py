"""FedBN: FedAvg, but every site keeps its own normalisation layers.

Li et al., "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", ICLR 2021,
arXiv:2102.07623. Deviation: group, layer and instance normalisation stay at the site as well,
because our networks use those instead of batch normalisation.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # batch and instance normalisation of every dimension

from fl_jobs.algorithms.base import PersonalAlgorithm
from fl_jobs.split_model import SplitModel

NORMALISATIONS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class FedBN(PersonalAlgorithm):
    """All but the normalisation layers (weights, biases, running statistics) is shared.

    A network without such layers makes this FedAvg.
    """

    def __init__(self, model: SplitModel, hyper_parameters: Mapping[str, Any]) -> None:
        super().__init__(model, hyper_parameters)
        self.own_prefixes = tuple(
            f"{name}." for name, module in self.named_modules() if isinstance(module, NORMALISATIONS)
        )

    def is_shared(self, name: str, value: Tensor) -> bool:
        return super().is_shared(name, value) and not name.startswith(self.own_prefixes)
