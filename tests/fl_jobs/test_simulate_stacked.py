"""Many sites trained in one pass give what each gives alone."""

from importlib import import_module

import pytest
import torch
from torch import nn

from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.catalog import ALGORITHMS, validate_hyper_parameters
from fl_jobs.packaging.spec import ModelSpec
from fl_jobs.simulate import Options, PartitionFolder, Simulation, make_spec
from fl_jobs.simulate.stacked import BY_BATCH, BY_CASE, SiteWork, can_stack, train_stacked
from fl_jobs.split_model import Scaler, SplitModel
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.partitions import write_partition
from tests.fl_jobs.sites import IMAGE, TABULAR
from tests.fl_jobs.sites import make_spec as plain_spec

SIZES = (23, 40, 7, 30, 11)  # full and short last batches, one site smaller than a batch


def convolutions():
    base = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return SplitModel(base, nn.Linear(6, 3), Scaler(1)), (1, 8, 8)


def layers():
    return SplitModel(nn.Sequential(nn.Linear(5, 8), nn.PReLU()), nn.Linear(8, 3), Scaler(5)), (5,)


def built(name, network, **settings):
    torch.manual_seed(0)
    model, shape = network()
    module, _, cls = ALGORITHMS[name].path.partition(":")
    values = validate_hyper_parameters(
        name, {"batch_size": 10, "learning_rate": 0.05, "local_epochs": 2, **settings}, "image"
    )
    return getattr(import_module(module), cls)(model, values), shape


def works_of(algorithm, shape):
    """Sites with weights, scaling and cases of their own; what is shared starts alike."""
    generator = torch.Generator().manual_seed(1)
    works = []
    for place, size in enumerate(SIZES):
        state = {name: value.clone() for name, value in algorithm.state_dict().items()}
        for name in algorithm.personal_state():
            if name.startswith(("head.", "base.", "own_")):
                state[name] += 0.05 * torch.randn(state[name].shape, generator=generator)
        state["scaler.mean"] += 0.1 * place
        x = torch.randn((size, *shape), generator=generator)
        y = torch.randint(0, 3, (size,), generator=generator)
        works.append(SiteWork(state, Cases(x, y), (f"site{place}", "train", 1)))
    return works


def alone(algorithm, work):
    algorithm.load_state_dict(work.state)
    trained = train_phase(algorithm, "train", work.cases, seed=5, words=work.words)
    return {name: value.clone() for name, value in algorithm.state_dict().items()}, trained


@pytest.mark.parametrize("name", sorted(BY_CASE | BY_BATCH))
@pytest.mark.parametrize("network", [layers, convolutions])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_stacked_equals_one_after_another(name, network, optimiser):
    algorithm, shape = built(name, network, optimiser=optimiser)
    assert can_stack(name, algorithm)
    works = works_of(algorithm, shape)
    for (state, trained), work in zip(train_stacked(name, algorithm, works, seed=5), works, strict=True):
        algorithm.load_state_dict(state)
        algorithm.end_round(())
        expected, by_itself = alone(built(name, network, optimiser=optimiser)[0], work)
        for key, value in algorithm.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=2e-5)
        assert (trained.cases, trained.steps) == (by_itself.cases, by_itself.steps)
        assert trained.loss_sum == pytest.approx(by_itself.loss_sum, rel=1e-4)


@pytest.mark.parametrize("settings", [{"clip_norm": 0.1}, {"weight_decay": 0.1}, {"schedule": "cosine"}])
def test_settings_of_the_loop_hold_for_each_site_of_a_stack(settings):
    algorithm, shape = built("fedavg", layers, optimiser="sgd", **settings)
    works = works_of(algorithm, shape)
    for (state, _), work in zip(train_stacked("fedavg", algorithm, works, seed=5), works, strict=True):
        expected, _ = alone(built("fedavg", layers, optimiser="sgd", **settings)[0], work)
        for key, value in state.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-5)


def test_what_is_not_the_same_when_stacked_is_not_stacked():
    assert not can_stack("fedcp", built("fedcp", layers)[0])
    assert not can_stack("fedala", built("fedala", layers)[0])
    assert not can_stack("fedavg", built("fedavg", layers, class_weights="balanced")[0])

    def with_layer(layer):
        def network():
            return SplitModel(nn.Sequential(nn.Linear(5, 8), layer), nn.Linear(8, 3), Scaler(5)), (5,)

        return built("fedavg", network)[0]

    assert can_stack("fedavg", with_layer(nn.Dropout(0.0)))
    assert not can_stack("fedavg", with_layer(nn.Dropout(0.5)))
    assert not can_stack("fedavg", with_layer(nn.BatchNorm1d(8)))


@pytest.mark.parametrize("task", [TABULAR, IMAGE])
def test_small_networks_of_the_catalog_can_be_stacked(task):
    assert can_stack("fedavg", build_algorithm(plain_spec("fedavg", task), "global"))


@pytest.mark.parametrize("algorithm", ["fedavg", "dbe", "ditto"])
def test_a_stacked_run_ends_where_the_other_does(tmp_path, algorithm):
    source = PartitionFolder(write_partition(tmp_path / "p", (24, 31, 12, 40)), validation=0.2)
    model = ModelSpec(
        name="image_conv2", arguments={"filters": 4, "kernel": 3, "padding": 1, "feature_dim": 8}
    )
    rows = {}
    for stacked in ("on", "off"):
        spec = make_spec(
            source, algorithm, model, rounds=3, hyper_parameters={"optimiser": "sgd", "batch_size": 10}
        )
        simulation = Simulation(spec, source, tmp_path / stacked, Options(stacked=stacked))
        rows[stacked] = list(simulation.rows())
        assert set(simulation.stacked.values()) == ({True} if stacked == "on" else {False})
    for one, other in zip(rows["on"], rows["off"], strict=True):
        assert (one.round, one.arm) == (other.round, other.arm)
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-3)
        assert (one.train_loss or 0.0) == pytest.approx(other.train_loss or 0.0, rel=1e-3)


def test_the_choice_is_measured_and_kept(tmp_path):
    source = PartitionFolder(write_partition(tmp_path / "p", (20,) * 12, shape=(9,)))
    model = ModelSpec(name="tabular_mlp", arguments={"hidden": 8, "feature_dim": 4})
    spec = make_spec(source, "fedavg", model, rounds=2, only=("global",))
    simulation = Simulation(spec, source, tmp_path / "s")
    list(simulation.rows())
    assert simulation.stacked == {"global": True}  # ten times as fast: no noise turns that round
