"""Whether what an algorithm shares is made of patients one by one, so that each can be clipped and noised."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm
from fl_jobs.errors import SpecError


def check_separates(algorithm: PersonalAlgorithm) -> None:
    """Refuse what no noised step covers. Raises SpecError.

    The catalog says for which algorithms this holds; here the built model and the course of a round are
    looked at. That a hook reads no case is seen to while it runs.
    """
    if algorithm.phases() != (TRAIN,):
        raise SpecError(
            "A one-off phase adds up facts about patients without noise, so differential privacy for each "
            "patient does not hold. Choose another algorithm, or protect whole sites."
        )
    stages = algorithm.stages()
    if len(stages) != 1 or stages[0].epochs is not None:
        raise SpecError(
            "Differential privacy for each patient counts the steps of rounds that have one part; this "
            "algorithm's have several. Choose another algorithm, or protect whole sites."
        )
    if norms := [name for name, module in algorithm.named_modules() if keeps_statistics(module)]:
        raise SpecError(
            f"The model's layer “{norms[0]}” normalises over a batch or keeps running statistics: it mixes "
            "patients, so differential privacy for each patient does not hold. Choose group normalisation."
        )


def keeps_statistics(module: nn.Module) -> bool:
    batch = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return isinstance(module, batch) or (isinstance(module, _NormBase) and module.track_running_stats)
