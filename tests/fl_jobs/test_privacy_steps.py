"""Noised steps: clipping for each patient exact, noise of the promised size, nothing read outside a step."""

import numpy as np
import pytest
import torch
from torch import nn

from fl_jobs.algorithms.base import PersonalAlgorithm
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.algorithms.separation import check_separates
from fl_jobs.errors import SpecError
from fl_jobs.private_steps import PrivateSteps, patient_gradient
from fl_jobs.split_model import Scaler, SplitModel
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.privacy_runs import names, private_spec
from tests.fl_jobs.sites import IMAGE, TABULAR, TEXT

CLIP = 0.05


def some_cases(task, count=12):
    generator = torch.Generator().manual_seed(3)
    x = {
        "tabular": torch.randn(count, 6, generator=generator),
        "image": torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8),
        "text": torch.randint(1, 900, (count, 60), generator=generator),
    }[task.kind]
    y = torch.randint(0, 2, (count,), generator=generator)
    return Cases(x, y, torch.arange(count) % 5)


def naive_patient(algorithm, parameters, x, y, clip):
    """Case by case: the mean of the single gradients, then one clip over all numbers together."""
    each = []
    for row in range(len(y)):
        algorithm.zero_grad()
        algorithm.loss(x[row : row + 1], y[row : row + 1]).backward()
        each.append(torch.cat([p.grad.flatten() for p in parameters]).double())
    mean = torch.stack(each).mean(dim=0)
    return (mean * min(1.0, clip / float(mean.norm()))).numpy(), float(mean.norm())


@pytest.mark.parametrize("task", [TABULAR, IMAGE, TEXT], ids=lambda task: task.kind)
@pytest.mark.parametrize("name", names("record"))
def test_clipping_of_each_patient_is_that_of_a_naive_loop(task, name):
    spec = private_spec(name, task)
    algorithm, cases = build_algorithm(spec, "global" if name == "fedavg" else "personal"), some_cases(task)
    parameters = [p for group in algorithm.param_groups("train") for p in group["params"]]
    lengths = []
    for patient in range(5):
        rows = cases.patient_N == patient
        x, y = cases.x[rows], cases.y[rows]
        _, found = patient_gradient(algorithm, parameters, x, y, CLIP)
        expected, length = naive_patient(algorithm, parameters, x, y, CLIP)
        np.testing.assert_allclose(found, expected, atol=2e-7, rtol=1e-4)
        assert np.linalg.norm(found) <= CLIP * (1 + 1e-12)
        lengths.append(length)
    assert max(lengths) > CLIP  # some were really clipped
    _, whole = patient_gradient(algorithm, parameters, x, y, 1e6)
    assert np.linalg.norm(whole) == pytest.approx(length, rel=1e-4)


def test_a_gradient_that_is_not_finite_counts_as_zero():
    algorithm = build_algorithm(private_spec(), "global")
    x = torch.full((2, 6), torch.inf)
    parameters = list(algorithm.parameters())
    _, gradient = patient_gradient(algorithm, parameters, x, torch.tensor([0, 1]), 1.0)
    assert not gradient.any()


class Constant(PersonalAlgorithm):
    """Its gradient is known: 1 for each weight of the head, whoever the patient is."""

    def loss(self, x, y_B):
        return self.head.weight.sum() + 0.0 * self.base.weight.sum() + 0.0 * self.head.bias.sum()


def constant(**settings):
    model = SplitModel(nn.Linear(2, 300), nn.Linear(300, 2), Scaler(0))
    known = {"batch_size": 4, "augmentation": "none", "learning_rate": 1.0, "weight_decay": 0.0}
    return Constant(
        model, {**known, "optimiser": "sgd", "schedule": "constant", "class_weights": "none", **settings}
    )


def test_one_step_has_the_clipped_sum_and_noise_of_the_promised_size():
    algorithm = constant()
    cases = Cases(torch.zeros(8, 2), torch.zeros(8, dtype=torch.long), torch.arange(8))
    before = [p.detach().clone() for p in algorithm.parameters()]
    noise, clip = 1.5, 2.0
    train_phase(algorithm, "train", cases, seed=1, words=("a", 1), private=PrivateSteps(noise, clip, 1.0, 1))
    change = dict(
        zip([n for n, _ in algorithm.named_parameters()],
            [(p.detach() - b) for p, b in zip(algorithm.parameters(), before, strict=True)], strict=True)
    )  # fmt: skip
    # 8 patients, each clipped to length 2 over 600 equal numbers, divided by the batch size 4
    expected = -8 * clip / np.sqrt(600) / 4
    std = noise * clip / 4
    head = change["head.weight"].double().numpy().ravel()
    assert head.mean() == pytest.approx(expected, abs=6 * std / np.sqrt(600))
    rest = np.concatenate(
        [change[n].double().numpy().ravel() for n in ("base.weight", "base.bias", "head.bias")]
    )
    chi2 = (rest**2).sum() / std**2
    assert chi2 == pytest.approx(len(rest), abs=6 * np.sqrt(2 * len(rest)))
    assert np.var(head) == pytest.approx(std**2, rel=0.35)


def test_steps_are_counted_whoever_is_sampled():
    algorithm = constant()
    cases = Cases(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), torch.arange(3))
    done = train_phase(
        algorithm, "train", cases, seed=1, words=("a", 1), private=PrivateSteps(1.0, 1.0, 0.01, 7)
    )
    assert done.steps == 7


def test_the_runs_seed_does_not_foretell_the_noise():
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        algorithm = constant()
        cases = Cases(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), torch.arange(3))
        train_phase(algorithm, "train", cases, seed=1, words=("a", 1), private=PrivateSteps(1.0, 1.0, 1.0, 1))
        results.append(algorithm.head.weight.detach().clone())
    assert not torch.any(results[0] == results[1])


def test_hooks_may_not_read_the_cases():
    class Reads(Constant):
        def begin_round(self, batches):
            self.seen = [len(y) for _, y in batches]

    model = SplitModel(nn.Linear(2, 3), nn.Linear(3, 2), Scaler(0))
    algorithm = Reads(model, constant().hyper_parameters)
    cases = Cases(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), torch.arange(3))
    with pytest.raises(SpecError, match="outside noised steps"):
        train_phase(algorithm, "train", cases, seed=1, words=("a", 1), private=PrivateSteps(1.0, 1.0, 1.0, 1))


def test_a_loss_may_not_keep_facts_about_patients_in_its_state():
    class Keeps(Constant):
        def __init__(self, model, settings):
            super().__init__(model, settings)
            self.register_buffer("seen", torch.zeros(()))

        def loss(self, x, y_B):
            self.seen += len(y_B)
            return super().loss(x, y_B)

    model = SplitModel(nn.Linear(2, 3), nn.Linear(3, 2), Scaler(0))
    algorithm = Keeps(model, constant().hyper_parameters)
    cases = Cases(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), torch.arange(3))
    with pytest.raises(SpecError, match="without noise"):
        train_phase(algorithm, "train", cases, seed=1, words=("a", 1), private=PrivateSteps(1.0, 1.0, 1.0, 1))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True)])
def test_a_model_that_mixes_patients_is_refused(layer):
    model = SplitModel(nn.Sequential(nn.Linear(2, 3), layer), nn.Linear(3, 2), Scaler(0))
    with pytest.raises(SpecError, match=r"base\.1.*Choose group normalisation"):
        check_separates(Constant(model, {}))
    check_separates(Constant(SplitModel(nn.Sequential(nn.GroupNorm(1, 2)), nn.Linear(2, 2), Scaler(0)), {}))


@pytest.mark.parametrize("name", names("record"))
@pytest.mark.parametrize("task", [TABULAR, IMAGE, TEXT], ids=lambda task: task.kind)
def test_the_loss_of_every_record_algorithm_separates_by_case(name, task):
    """The catalog says "record": then a batch's loss is the mean of its cases' losses, whoever is beside."""
    spec = private_spec(name, task)
    algorithm = build_algorithm(spec, "global" if name == "fedavg" else "personal").train()
    cases = some_cases(task)
    together = algorithm.loss(cases.x, cases.y)
    alone = [algorithm.loss(cases.x[i : i + 1], cases.y[i : i + 1]) for i in range(len(cases.y))]
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-4, atol=1e-6)
