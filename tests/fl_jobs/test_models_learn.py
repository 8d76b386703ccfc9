"""Every image model learns with its own defaults: stripes one way or the other, under noise."""

import pytest
import torch

from fl_jobs.algorithms.base import TRAIN
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.catalog import MODELS, validate_hyper_parameters
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.model_cases import make_run, make_task

SIDE, CASES, PASSES = 32, 60, 16


def stripes():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 120, (CASES, 3, SIDE, SIDE), generator=generator)
    y = torch.arange(CASES) % 2
    wave = torch.arange(SIDE) // 4 % 2 * 60
    x[y == 1] += wave
    x[y == 0] += wave[:, None]
    return Cases(x.to(torch.uint8), y)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if "image" in model.kinds])
def test_an_image_model_learns_with_its_defaults(name):
    settings = validate_hyper_parameters("fedavg", {"batch_size": 10}, "image", model=name)
    spec = make_run(name, make_task("image", 3, SIDE, SIDE), small=False, tensors=False)
    algorithm = build_algorithm(spec.model_copy(update={"hyper_parameters": settings}), "global")
    algorithm.scaler.mean.fill_(0.35)
    algorithm.scaler.std.fill_(0.15)
    cases, right = stripes(), 0.0
    for number in range(PASSES):
        train_phase(algorithm, TRAIN, cases, seed=0, words=("a", number))
        algorithm.eval()
        with torch.no_grad():
            right = float((algorithm(cases.x).argmax(dim=1) == cases.y).float().mean())
        if right > 0.95:
            break
    assert right > 0.95
