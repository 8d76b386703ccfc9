"""Mixed precision: bfloat16 inside the base and in training only; everything that is kept is float32."""

import numpy as np
import pytest
import torch

from fl_jobs.algorithms.base import TRAIN
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.catalog import MODELS
from fl_jobs.errors import SpecError
from fl_jobs.evaluation import predict_probabilities
from fl_jobs.simulate.stacked import can_stack
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.model_cases import inputs, make_run, make_task
from tests.fl_jobs.privacy_runs import RECORD, SITE, private_spec
from tests.fl_jobs.recording import NAMES, TASKS, spec_of

EVERY = pytest.mark.parametrize("name", NAMES)
ROWS = 40


def cases_of(task):
    x = inputs(task, ROWS)
    return Cases(x, (x.flatten(1).double().mean(dim=1) > x.double().mean()).long())


def trained(name, kind="tabular", **settings):
    """An algorithm after two rounds, and the loss of a case in each phase."""
    spec = spec_of(name, kind, **{"local_epochs": 1, "optimiser": "sgd"} | settings)
    algorithm, cases, losses = build_algorithm(spec, spec.arms()[-1]), cases_of(TASKS[kind]), []
    algorithm.scaler.fit(cases.x)
    for number in range(2):
        for phase in algorithm.phases():
            done = train_phase(algorithm, phase, cases, seed=1, words=("a", phase, number))
            losses.append(done.loss_sum / done.cases)
            if phase != TRAIN:
                algorithm.receive(phase, {key: value for key, (value, _lane) in algorithm.sums().items()})
    return algorithm, losses


@EVERY
@pytest.mark.parametrize("kind", sorted(TASKS))
def test_mixed_precision_learns_as_full_precision_does(name, kind):
    full, wanted = trained(name, kind)
    mixed, found = trained(name, kind, precision="mixed")
    assert np.isfinite(found).all()
    assert found == pytest.approx(wanted, rel=0.02)
    states = full.state_dict(), mixed.state_dict()
    assert all(value.dtype == states[0][key].dtype for key, value in states[1].items())
    assert {v.dtype for v in states[1].values() if v.is_floating_point()} == {torch.float32}
    assert all(value.dtype == torch.float32 for value, _lane in mixed.sums().values())
    if kind != "text":  # of it only a small layer is computed with bfloat16
        assert any(not torch.equal(value, states[0][key]) for key, value in states[1].items())


def watch(algorithm):
    """What the layers of the bases and the rest of the algorithm give out: (in a base?, dtype)."""
    seen = []
    for title, module in algorithm.named_modules():
        if isinstance(module, torch.nn.Linear):
            inside = title.split(".")[0] in {"base", "own_base"}
            module.register_forward_hook(
                lambda _module, _inputs, output, inside=inside: seen.append((inside, output.dtype))
            )
    return seen


@EVERY
def test_only_the_base_computes_with_bfloat16_and_only_to_learn(name):
    spec = spec_of(name, precision="mixed")
    algorithm, cases = build_algorithm(spec, spec.arms()[-1]), cases_of(TASKS["tabular"])
    seen = watch(algorithm)
    outside_loss = []
    begin, end = algorithm.begin_round, algorithm.end_round

    def hook_of(hook):
        def run(batches):
            before = len(seen)
            hook(batches)
            outside_loss.extend(seen[before:])
            del seen[before:]

        return run

    algorithm.begin_round, algorithm.end_round = hook_of(begin), hook_of(end)
    for number in range(2):
        train_phase(algorithm, TRAIN, cases, seed=1, words=("a", number))
    assert set(seen) <= {(True, torch.bfloat16), (False, torch.float32)}
    assert (True, torch.bfloat16) in seen
    del seen[:]
    predict_probabilities(algorithm, cases.x)
    assert {dtype for _inside, dtype in seen + outside_loss} == {torch.float32}


@pytest.mark.parametrize("name", sorted(n for n, entry in MODELS.items() if not entry.needs_weights))
def test_every_model_learns_with_mixed_precision(name):
    task = make_task(MODELS[name].kinds[0])
    spec = make_run(name, task, tensors=False)
    spec = spec.model_copy(update={"hyper_parameters": {"batch_size": 8, "precision": "mixed"}})
    algorithm = build_algorithm(spec, "global")
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    train_phase(algorithm, TRAIN, cases_of(task), seed=1, words=("a", 1))
    after = algorithm.state_dict()
    assert all(value.dtype == before[key].dtype for key, value in after.items())
    assert any(not torch.equal(value, before[key]) for key, value in after.items())


def test_privacy_for_patients_is_refused_with_mixed_precision_and_for_sites_it_holds():
    with pytest.raises(SpecError, match="Set the precision to"):
        private_spec(privacy=RECORD, precision="mixed")
    private_spec(privacy=SITE, masked=True, precision="mixed")  # the whole update is clipped, however made


def test_a_word_that_is_no_precision_is_refused():
    with pytest.raises(SpecError, match="choose one of: float32, mixed"):
        spec_of("fedavg", precision="float16")


def test_mixed_precision_is_not_stacked():
    assert can_stack("fedavg", build_algorithm(spec_of("fedavg"), "global"))
    assert not can_stack("fedavg", build_algorithm(spec_of("fedavg", precision="mixed"), "global"))
