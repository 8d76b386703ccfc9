"""The algorithm of one arm, and the list of tensors a run lets out of a site."""

import hashlib
from importlib import import_module
from pathlib import Path

import torch

from fl_jobs.algorithms.base import PersonalAlgorithm
from fl_jobs.catalog import ALGORITHMS, validate_hyper_parameters
from fl_jobs.models.build import build_model
from fl_jobs.packaging.spec import Arm, RunSpec, TensorSpec


def build_algorithm(
    spec: RunSpec, arm: Arm, weights: Path | None = None, *, shapes_only: bool = False
) -> PersonalAlgorithm:
    """A fresh algorithm; what it starts from depends on the specification only and is the same in all arms.

    ``weights`` and ``shapes_only`` as for :func:`build_model`. Raises SpecError, ModelFileError.
    """
    kind = spec.study.task.kind
    values = validate_hyper_parameters(spec.algorithm, spec.hyper_parameters, kind, spec.model.name)
    module, _, name = ALGORITHMS[spec.arm_algorithm(arm)].path.partition(":")
    algorithm_class: type[PersonalAlgorithm] = getattr(import_module(module), name)
    model = build_model(spec, weights, shapes_only=shapes_only)
    with torch.random.fork_rng(devices=[]):  # what an algorithm adds (gate, valve) begins alike at all sites
        torch.manual_seed(spec.seed)
        return algorithm_class(model, values)


def describe_tensors(spec: RunSpec) -> tuple[TensorSpec, ...]:
    """Every tensor that leaves a site in this run, asked of the algorithms themselves. Raises SpecError.

    Needs no file of trained weights.
    """
    tensors: list[TensorSpec] = []
    for arm in spec.arms():
        algorithm = build_algorithm(spec, arm, shapes_only=True)
        for phase in algorithm.phases():
            algorithm.phase = phase
            tensors += [
                TensorSpec(arm=arm, phase=phase, name=name, shape=tuple(value.shape), lane=lane)
                for name, (value, lane) in sorted(algorithm.sums().items())
            ]
    return tuple(tensors)


def initial_sha256(spec: RunSpec, weights: Path | None = None) -> str:
    """Digest of the freshly built model (without the site's scaling); equal at all sites or the run stops."""
    digest = hashlib.sha256()
    for name, value in sorted(build_model(spec, weights).state_dict().items()):
        if not name.startswith("scaler."):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().to(torch.float32).contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()
