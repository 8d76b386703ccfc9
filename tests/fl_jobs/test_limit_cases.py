"""Settings at which one method becomes another: to the last bit, because all share one loop."""

import numpy as np
import pytest
import torch

from fl_jobs.algorithms.base import TRAIN
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.algorithms.ditto import OWN
from fl_jobs.tensor_files import read_tensors
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.recording import NAMES, make_homes, record, spec_of
from tests.fl_jobs.sites import FEATURES

# Each of these trains the common model of FedAvg with the same batches.
IS_FEDAVG = {
    "dbe": {"kappa": 0.0, "offset_rate": 0.0}, "ditto": {}, "fedala": {"mixing_rate": 0.0}, "fedbn": {},
    "fedprox": {"prox_pull": 0.0},
}  # fmt: skip
# With a single site there is nothing to average: each of these is local-only.
ALONE = IS_FEDAVG | {"fedavg": {}, "fedper": {}, "lg_fedavg": {}}


@pytest.mark.parametrize("name", IS_FEDAVG)
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_it_is_fedavg(tmp_path, name, optimiser):
    run = record(spec_of(name, rounds=2, optimiser=optimiser, **IS_FEDAVG[name]), make_homes(tmp_path))
    for number, aggregate in run.commits.items():
        common = {wire.partition("/")[2]: v for wire, v in aggregate.items() if wire.startswith("global/")}
        assert common
        for tensor, value in common.items():
            assert np.array_equal(aggregate[f"personal/{tensor}"], value), (number, tensor)
    if name != "ditto":  # whose own model answers
        for record_ in run.records[-1]["sites"].values():
            assert record_["cells"]["personal"] == record_["cells"]["global"]


@pytest.mark.parametrize("name", sorted(ALONE))
def test_alone_it_is_local_only(tmp_path, name):
    run = record(spec_of(name, **ALONE[name]), make_homes(tmp_path, sites=("a",)))
    arm = run.spec.arms()[-1]
    local = read_tensors(run.personal_file("a", "local", 3))
    both = read_tensors(run.personal_file("a", arm, 3)) | {
        wire.partition("/")[2]: v for wire, v in run.commits[3].items() if wire.startswith(f"{arm}/")
    }
    for tensor, value in local.items():
        assert np.array_equal(both[tensor], value), tensor


def test_fedproto_without_pull_trains_the_network_of_local_only(tmp_path):
    run = record(spec_of("fedproto", prototype_pull=0.0), make_homes(tmp_path))
    for site in run.homes:
        local = read_tensors(run.personal_file(site, "local", 3))
        own = read_tensors(run.personal_file(site, "personal", 3))
        assert all(np.array_equal(own[tensor], value) for tensor, value in local.items())


def test_the_own_model_of_ditto_without_pull_is_local_only():
    """But for the order of the batches, which is that of the stage."""
    generator = torch.Generator().manual_seed(0)
    cases = Cases(torch.randn(30, len(FEATURES), generator=generator), torch.arange(30) % 2)
    ditto = build_algorithm(spec_of("ditto", own_pull=0.0), "personal")
    local = build_algorithm(spec_of("ditto"), "local")
    train_phase(ditto, TRAIN, cases, seed=1, words=("a", TRAIN, 1))
    train_phase(local, TRAIN, cases, seed=1, words=("a", TRAIN, 1, OWN))
    for tensor, value in local.head.state_dict().items():
        assert torch.equal(ditto.own_head.state_dict()[tensor], value)
    for tensor, value in local.base.state_dict().items():
        assert torch.equal(ditto.own_base.state_dict()[tensor], value)


@pytest.mark.parametrize(
    ("name", "setting", "own"),
    [("ditto", "own_pull", ("own_base.", "own_head.")), ("fedprox", "prox_pull", ("base.", "head."))],
)
def test_a_strong_pull_keeps_the_model_where_it_was_received(name, setting, own):
    generator = torch.Generator().manual_seed(0)
    cases = Cases(torch.randn(30, len(FEATURES), generator=generator), torch.arange(30) % 2)
    moved = {}
    for pull in (0.0, 10.0):
        algorithm = build_algorithm(
            spec_of(name, local_epochs=5, optimiser="sgd", **{setting: pull}), "personal"
        )
        before = {key: value.clone() for key, value in algorithm.state_dict().items()}
        train_phase(algorithm, TRAIN, cases, seed=1, words=("a", TRAIN, 1))
        moved[pull] = sum(
            float((value - before[key]).square().sum())
            for key, value in algorithm.state_dict().items()
            if key.startswith(own)
        )
    assert moved[10.0] < 0.5 * moved[0.0]


def test_fedrep_fits_the_head_before_the_base_moves():
    generator = torch.Generator().manual_seed(0)
    cases = Cases(torch.randn(30, len(FEATURES), generator=generator), torch.arange(30) % 2)
    algorithm = build_algorithm(spec_of("fedrep", local_epochs=1), "personal")
    states, real = [], algorithm.loss

    def watch(x, y_B):
        base = {key: value.clone() for key, value in algorithm.base.state_dict().items()}
        states.append((algorithm.stage, algorithm.head.weight.detach().clone(), base))
        return real(x, y_B)

    algorithm.loss = watch
    train_phase(algorithm, TRAIN, cases, seed=1, words=("a", TRAIN, 1))
    head = [state for state in states if state[0] == "head"]
    base = [state for state in states if state[0] == TRAIN]
    assert len(head) == len(base) == 4
    assert [state[0] for state in states] == ["head"] * 4 + [TRAIN] * 4
    assert all(torch.equal(v, base[0][2][k]) for s in head for k, v in s[2].items())
    assert not torch.equal(head[0][1], head[-1][1])
    assert all(torch.equal(s[1], base[0][1]) for s in base)
    assert any(not torch.equal(v, base[-1][2][k]) for k, v in base[0][2].items())


def test_fedbn_keeps_normalisation_layers_and_is_fedavg_without():
    table, image = (build_algorithm(spec_of("fedbn", kind), "personal") for kind in ("tabular", "image"))
    assert table.shared_state().keys() == build_algorithm(spec_of("fedavg"), "global").shared_state().keys()
    kept = {key for key in image.personal_state() if not key.startswith("scaler.")}
    assert len(kept) == 2 * 4  # weight and bias of four group normalisations
    assert {key.split(".")[-1] for key in kept} == {"weight", "bias"}
    assert all(image.state_dict()[key].dim() == 1 for key in kept)


def test_every_algorithm_is_in_a_limit_case_or_has_none():
    without = {"fedcp", "gpfl", "fedrep", "fedproto", "local_only"}
    assert {*ALONE, *without} == set(NAMES)
