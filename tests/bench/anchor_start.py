"""What both sides of a pair begin with and see: weights, the order of each pass's cases, seeds of noise."""

from itertools import chain

import numpy as np
import torch

from fl_jobs.algorithms.base import TRAIN
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.cases import Cases
from fl_jobs.training import order_of, passes, round_noise, shuffled

OWN = {"gpfl": ("embedding", "valve"), "fedcp": ("gate",)}  # modules beside base and head that PFLlib has too


def write_start(spec, source, path):
    """An npz for the other side. "model_I" and "own_I" are weights in the order of the layers.

    "orders_S" of site number S has a row per pass, in the sequence of the passes: the places of its training
    cases. "noise_S" is what noise is seeded with as each pass begins (FedCP's round is one pass in ``LOOP``).
    There is a round more than the run has: PFLlib trains once more after its last measurement.
    """
    (arm,) = spec.arms()
    algorithm = build_algorithm(spec, arm)
    held = {f"model_{i}": p for i, p in enumerate(chain(*_weights(algorithm, ("base", "head"))))}
    held |= {f"own_{i}": p for i, p in enumerate(chain(*_weights(algorithm, OWN.get(spec.algorithm, ()))))}
    arrays = {name: parameter.detach().numpy() for name, parameter in held.items()}
    for number, site in enumerate(source.sites):
        count = len(source.read(site, None).train.y)
        rounds = list(site_passes(algorithm, site, count, rounds=spec.rounds + 1, seed=spec.seed))
        arrays[f"orders_{number}"] = np.stack([order for order, _ in rounds])
        arrays[f"noise_{number}"] = np.array([noise for _, noise in rounds])
    np.savez(path, **arrays)


def site_passes(algorithm, site, count, *, rounds, seed):
    """The order of ``count`` cases and the seed of the noise, of each pass that ``site`` makes."""
    cases = Cases(torch.arange(count)[:, None], torch.arange(count))
    phases = [(phase, 0) for phase in algorithm.phases() if phase != TRAIN]
    for phase, number in [*phases, *((TRAIN, number) for number in range(1, rounds + 1))]:
        words = (site, phase, number)
        algorithm.phase = phase
        for stage in algorithm.stages():
            order = order_of(stage, phase, seed, words)
            for _ in range(passes(stage, algorithm.hyper_parameters)):
                batches = [y for _, y in shuffled(cases, algorithm.hyper_parameters, order)]
                yield torch.cat(batches).numpy(), round_noise(seed, words)


def _weights(algorithm, names):
    return (algorithm.get_submodule(name).parameters() for name in names)
