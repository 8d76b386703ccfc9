"""What holds for every algorithm of the catalog, and what DBE adds."""

import pytest
import torch

from fl_jobs.algorithms.base import TRAIN
from fl_jobs.algorithms.build import build_algorithm, describe_tensors, initial_sha256
from fl_jobs.algorithms.dbe import DBE, FEATURE_MEAN
from fl_jobs.catalog import ALGORITHMS
from fl_jobs.errors import SharedStateError
from fl_jobs.packaging.spec import TaskSpec
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.sites import FEATURES, IMAGE, LABELS, TABULAR, TEXT, make_spec

EVERY = pytest.mark.parametrize("name", sorted(ALGORITHMS))
INPUTS = {
    "tabular": torch.randn(20, len(FEATURES), generator=torch.Generator().manual_seed(0)),
    "image": torch.arange(20 * 3 * 16 * 16).remainder(251).to(torch.uint8).view(20, 3, 16, 16),
    "text": torch.arange(1, 101).view(20, 5),
}


def build(name, task=TABULAR, **hyper_parameters):
    spec = make_spec(name, task, **hyper_parameters)
    return build_algorithm(spec, spec.arms()[-1])


def cases(task=TABULAR):
    return Cases(INPUTS[task.kind], torch.arange(20) % 2)


def train(algorithm, phase=TRAIN, task=TABULAR, seed=1):
    return train_phase(algorithm, phase, cases(task), seed=seed, words=("site", phase, 1))


@EVERY
def test_what_leaves_is_what_is_declared_and_floating_point(name):
    algorithm = build(name)
    assert all(key.startswith(algorithm.shared_prefixes) for key in algorithm.shared_state())
    assert all(value.is_floating_point() for value in algorithm.shared_state().values())
    assert not algorithm.shared_state().keys() & algorithm.personal_state().keys()
    assert {"scaler.mean", "scaler.std"} <= algorithm.personal_state().keys()
    both = algorithm.shared_state() | algorithm.personal_state()
    assert both.keys() == algorithm.state_dict().keys()


@EVERY
@pytest.mark.parametrize("task", [TABULAR, IMAGE, TEXT], ids=lambda task: task.kind)
def test_training_changes_the_model_and_answers_stay_the_same(name, task):
    algorithm = build(name, task)
    before = algorithm(INPUTS[task.kind]).detach()
    train(algorithm, task=task)
    algorithm.eval()
    after = algorithm(INPUTS[task.kind])
    assert not torch.equal(before, after)
    assert torch.equal(after, algorithm(INPUTS[task.kind]))
    assert after.shape == (20, len(LABELS))


@EVERY
def test_the_same_seed_gives_the_same_model_and_another_seed_another(name):
    states = []
    for seed in (1, 1, 2):
        algorithm = build(name)
        train(algorithm, seed=seed)
        states.append(algorithm.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


@EVERY
def test_every_arm_takes_the_same_steps_and_a_stage_of_its_own_comes_on_top(name):
    algorithm = build(name, batch_size=8, local_epochs=2)
    algorithm.phase = TRAIN
    epochs = sum(2 if stage.epochs is None else stage.epochs for stage in algorithm.stages())
    assert epochs == {"ditto": 4, "fedrep": 3}.get(name, 2)
    done = train(algorithm)
    assert (done.steps, done.cases) == (3 * epochs, 20 * epochs)


def test_all_arms_begin_with_the_same_weights():
    spec = make_spec("dbe")
    states = [build_algorithm(spec, arm).state_dict() for arm in spec.arms()]
    for name, value in states[0].items():
        assert all(torch.equal(value, other[name]) for other in states[1:])
    assert initial_sha256(spec) == initial_sha256(make_spec("fedavg"))
    assert initial_sha256(spec) != initial_sha256(make_spec("dbe", seed=8))


def test_building_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build("dbe")
    train(build("dbe"))
    assert torch.equal(torch.rand(1), expected)


def test_local_only_shares_nothing():
    assert describe_tensors(make_spec("local_only")) == ()
    assert build("local_only").sums() == {}


def test_an_aggregate_that_does_not_fit_is_refused():
    algorithm = build("fedavg")
    state = {name: value.clone() for name, value in algorithm.shared_state().items()}
    for bad in (
        {**state, "scaler.mean": torch.zeros(6)},
        {name: value for name, value in state.items() if name != "head.bias"},
        {**state, "head.bias": torch.zeros(5)},
    ):
        with pytest.raises(SharedStateError, match="does not fit"):
            algorithm.receive(TRAIN, bad)


def test_dbe_sends_the_exact_mean_of_the_features_it_ends_with():
    algorithm = build("dbe", batch_size=8)
    train(algorithm, FEATURE_MEAN)
    with torch.no_grad():
        expected = algorithm.base(algorithm.scaler(cases().x)).mean(dim=0)
    sums = algorithm.sums()
    assert sums.keys() == {FEATURE_MEAN}
    value, lane = sums[FEATURE_MEAN]
    assert lane == "samples"
    assert torch.allclose(value, expected, atol=1e-6)
    assert torch.equal(algorithm.offset_K, torch.zeros_like(algorithm.offset_K))


def test_the_offset_and_the_common_mean_never_leave():
    declared = {(t.phase, t.name) for t in describe_tensors(make_spec("dbe")) if t.arm == "personal"}
    assert (FEATURE_MEAN, FEATURE_MEAN) in declared
    assert not any("offset" in name or "scaler" in name for _, name in declared)
    assert "offset_K" in build("dbe").personal_state()


def test_dbe_without_offset_and_regulariser_is_fedavg():
    plain, limit = build("fedavg"), build("dbe", kappa=0.0, offset_rate=0.0)
    train(plain)
    train(limit)
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, limit.state_dict()[name], atol=1e-6)


def test_the_regulariser_pulls_the_mean_feature_to_the_common_one():
    distances = []
    for kappa in (0.0, 200.0):
        algorithm = build("dbe", kappa=kappa, local_epochs=10)
        algorithm.receive(FEATURE_MEAN, {FEATURE_MEAN: torch.full((4,), 0.5)})
        train(algorithm)
        with torch.no_grad():
            mean = algorithm.base(algorithm.scaler(cases().x)).mean(dim=0)
        distances.append(float((mean - 0.5).square().mean()))
    assert distances[1] < distances[0]


def test_the_offset_gets_no_gradient_from_the_regulariser():
    algorithm = build("dbe", kappa=100.0)
    assert isinstance(algorithm, DBE)
    x, y = cases().x, cases().y
    algorithm.loss(x, y).backward()
    with_pull = algorithm.offset_K.grad.clone()
    algorithm.zero_grad()
    algorithm.hyper_parameters = {**algorithm.hyper_parameters, "kappa": 0.0}
    algorithm.loss(x, y).backward()
    assert torch.allclose(with_pull, algorithm.offset_K.grad)


def test_a_common_mean_of_another_size_is_refused():
    with pytest.raises(SharedStateError, match="feature mean"):
        build("dbe").receive(FEATURE_MEAN, {FEATURE_MEAN: torch.zeros(3)})


def test_a_head_has_all_labels_of_the_study():
    task = TaskSpec(kind="tabular", labels=("a", "b", "c", "d", "e"), features=FEATURES)
    assert build("dbe", task).head.out_features == 5
