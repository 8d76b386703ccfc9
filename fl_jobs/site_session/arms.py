"""The models of one run at one site: built once, filled from aggregate and disk for each task."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fl_jobs.algorithms.base import PersonalAlgorithm
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.device import CPU
from fl_jobs.errors import SharedStateError
from fl_jobs.messages import TensorMap
from fl_jobs.packaging.spec import Arm, RunSpec
from fl_jobs.privacy.rules import public_scaling
from fl_jobs.site_session.store import PersonalStore
from fl_jobs.split_model import Scaler


@dataclass(frozen=True)
class Loaded:
    """A model ready for a task. ``own_round``: the round its personal part is from; None: never trained."""

    algorithm: PersonalAlgorithm
    own_round: int | None


class ArmModels:
    """Fills the run's models. Every load starts from the same initial state: nothing leaks between tasks."""

    def __init__(
        self,
        spec: RunSpec,
        store: PersonalStore,
        train_x: Tensor,
        weights: Path | None = None,
        device: torch.device = CPU,
    ) -> None:
        self._spec, self._store = spec, store
        self._models = {arm: build_algorithm(spec, arm, weights) for arm in spec.arms()}
        self._initial: dict[Arm, dict[str, Tensor]] = {}
        for arm, model in self._models.items():
            self._initial[arm] = {name: value.clone() for name, value in model.state_dict().items()}
            model.to(device)
        self.scale(train_x)

    def scale(self, train_x: Tensor) -> None:
        """Take the scaling of a site's training inputs, or the run's public one."""
        for arm, model in self._models.items():
            set_scaling(model.scaler, self._spec, arm, train_x)
            scaling = model.scaler.state_dict()
            self._initial[arm] |= {f"scaler.{name}": value.clone() for name, value in scaling.items()}

    def load(self, arm: Arm, tensors: TensorMap, up_to: int) -> Loaded:
        """The arm's model from the aggregate in ``tensors`` and the newest own part up to round ``up_to``.

        Without an aggregate (before the first round) the initial model; without an own part the initial
        personal part (a late joiner). Raises SharedStateError, ModelFileError.
        """
        algorithm = self._models[arm]
        algorithm.load_state_dict(self._initial[arm])
        for phase in algorithm.phases():
            self._receive(algorithm, arm, phase, tensors)
        newest = self._store.read_newest(arm, up_to)
        if newest is None:
            return Loaded(algorithm, None)
        number, own = newest
        if own.keys() != algorithm.personal_state().keys():
            raise SharedStateError(f"The personal part of round {number} does not fit the model. Remove it.")
        algorithm.load_state_dict(to_torch(own), strict=False)
        return Loaded(algorithm, number)

    def _receive(self, algorithm: PersonalAlgorithm, arm: Arm, phase: str, tensors: TensorMap) -> None:
        declared = {wire: t.name for wire, t in self._spec.shared(phase).items() if t.arm == arm}
        if present := {name: tensors[wire] for wire, name in declared.items() if wire in tensors}:
            algorithm.receive(phase, to_torch(present))


def set_scaling(scaler: Scaler, spec: RunSpec, arm: Arm, train_x: Tensor) -> None:
    """The site's own standardisation, or the run's public one where the site's would steer what leaves."""
    public = public_scaling(spec)
    if public is None or arm == "local":
        scaler.fit(train_x)
    elif public:
        scale_SF = torch.tensor(public, dtype=torch.float32).T
        scaler.load_state_dict({"mean": scale_SF[0], "std": scale_SF[1]})


def personal_part(algorithm: PersonalAlgorithm) -> TensorMap:
    """A copy of what stays at the site."""
    return to_numpy(algorithm.personal_state())


def whole_model(algorithm: PersonalAlgorithm) -> TensorMap:
    """A copy of all tensors of a model."""
    return to_numpy(algorithm.state_dict())


def to_torch(tensors: TensorMap) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in tensors.items()}


def to_numpy(tensors: dict[str, Tensor]) -> TensorMap:
    """Copies off the device: the only way by which tensors come out of a model."""
    return {name: value.detach().to(CPU, torch.float32).numpy().copy() for name, value in tensors.items()}
