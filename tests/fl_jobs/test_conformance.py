"""What every algorithm of the catalog keeps to: what leaves, what stays, what is served."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.catalog import ALGORITHMS, check_masking
from fl_jobs.errors import SpecError
from fl_jobs.evaluation import predict_probabilities
from fl_jobs.predictor import Predictor
from fl_jobs.server_session import ServerSession
from fl_jobs.tensor_files import read_tensors
from tests.fl_jobs.recording import NAMES, TASKS, Recording, make_homes, record, spec_of
from tests.fl_jobs.sites import FEATURES, LABELS

EVERY = pytest.mark.parametrize("name", NAMES)
KINDS = pytest.mark.parametrize("kind", sorted(TASKS))
# What may leave in a round, by the first word of a tensor's name; all else is personal.
SHARED = {
    "dbe": {"base", "head"}, "ditto": {"base", "head"}, "fedala": {"base", "head"},
    "fedavg": {"base", "head"}, "fedbn": {"base", "head"}, "fedcp": {"base", "gate", "global_head"},
    "fedper": {"base"}, "fedproto": {"owned_C", "prototypes_CK"}, "fedprox": {"base", "head"},
    "fedrep": {"base"}, "gpfl": {"base", "embedding", "valve"}, "lg_fedavg": {"head"}, "local_only": set(),
}  # fmt: skip
# The first words of what stays, besides the scaler.
PERSONAL = {
    "dbe": {"offset_K"}, "ditto": {"own_base", "own_head", "joined_1"},
    "fedala": {"own_head", "mix_CK", "mix_C", "joined_1"}, "fedcp": {"head", "joined_1"},
    "fedper": {"head"}, "fedproto": {"base", "head", "own_CK", "own_cases_C"}, "fedrep": {"head"},
    "gpfl": {"head", "prior_C"}, "lg_fedavg": {"base"}, "local_only": {"base", "head"},
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """One run of three sites per algorithm and kind, kept for all tests of this file."""
    kept = {}

    def get(name, kind="tabular") -> Recording:
        if (name, kind) not in kept:
            root = tmp_path_factory.mktemp(f"{name}-{kind}")
            rounds = 3 if kind == "tabular" else 2
            kept[name, kind] = record(spec_of(name, kind, rounds=rounds), make_homes(root, kind))
        return kept[name, kind]

    return get


def first_words(names):
    return {name.split(".")[0] for name in names}


@EVERY
@KINDS
def test_what_is_declared_is_what_is_sent_in_every_round(recorded, name, kind):
    run = recorded(name, kind)
    for order, answers in run.answers:
        declared = order.declared(run.spec)
        for answer in answers.values():
            assert {w: v.shape for w, v in answer.tensors.items()} == {
                w: t.shape for w, t in declared.items()
            }
            sent = sum(value.nbytes for value in answer.tensors.values())
            assert sent == 4 * sum(tensor.size for tensor in declared.values())
            assert all(value.dtype == np.float32 for value in answer.tensors.values())
        assert (order.name in ("train", "phase")) or not declared
    last = run.commits[run.spec.rounds]
    assert last.keys() >= run.spec.shared().keys()


@EVERY
@KINDS
def test_a_personal_name_is_never_on_the_wire(recorded, name, kind):
    run = recorded(name, kind)
    arm = run.spec.arms()[-1]
    algorithm = build_algorithm(run.spec, arm)
    personal, shared = algorithm.personal_state().keys(), algorithm.shared_state().keys()
    assert first_words(shared) == SHARED[name]
    assert first_words(personal) - {"scaler"} >= PERSONAL.get(name, set())
    if not (name == "fedbn" and kind == "image"):
        assert first_words(personal) - {"scaler"} == PERSONAL.get(name, set())
    for order, answers in run.answers:
        for wire in [*order.tensors, *(w for answer in answers.values() for w in answer.tensors)]:
            sender, _, tensor = wire.partition("/")
            assert sender != arm or (tensor not in personal)
            assert sender != "local"


@EVERY
def test_no_personal_value_is_on_the_wire_under_another_name(recorded, name):
    """Only of FedALA the trained head leaves and stays, and of FedProto the means of labels."""
    run = recorded(name)
    arm = run.spec.arms()[-1]
    allowed = {"fedala": {"own_head.weight", "own_head.bias"}, "fedproto": {"own_CK"}}.get(name, set())
    for order, answers in run.answers:
        path = run.personal_file("a", arm, order.round_number)
        if order.name != "train" or not path.exists():
            continue
        sent = answers["a"].tensors
        for tensor, value in read_tensors(path).items():
            if tensor in allowed or np.ptp(value) == 0:
                continue
            same = [w for w in sent if sent[w].shape == value.shape and np.array_equal(sent[w], value)]
            assert same == [], tensor


@EVERY
@KINDS
def test_answers_do_not_depend_on_chance_and_change_nothing(recorded, name, kind):
    run = recorded(name, kind)
    site, last = run.sites["b"], run.spec.rounds
    for arm in run.spec.arms():
        algorithm = site.models.load(arm, run.commits[last], last).algorithm
        before = {key: value.clone() for key, value in algorithm.state_dict().items()}
        x = torch.from_numpy(site.validation.x)
        torch.manual_seed(1)
        first = predict_probabilities(algorithm, x)
        torch.manual_seed(2)
        assert np.array_equal(first, predict_probabilities(algorithm, x))
        assert np.allclose(first[:1], predict_probabilities(algorithm, x[:1]), atol=1e-6)
        assert np.allclose(first.sum(axis=1), 1)
        assert all(torch.equal(value, before[key]) for key, value in algorithm.state_dict().items())


@EVERY
def test_the_two_files_together_answer_as_the_trained_model(recorded, name):
    run = recorded(name)
    finish, site = run.answers[-1][0], run.sites["a"]
    report = run.records[-1]["sites"]["a"]
    part = site.part("test")
    cases = [dict(zip(FEATURES, map(float, row), strict=True)) for row in part.x]
    for arm in run.spec.arms():
        number = report["files"][arm]["round"]
        digest = report["shared_sha256"].get(arm)
        shared = run.homes["a"] / "artifacts" / "sha256" / digest if digest else None
        own = run.personal_file("a", arm, number)
        predictor = Predictor.load(run.spec, arm, shared, own)
        trained = site.models.load(arm, finish.tensors, number).algorithm
        files = read_tensors(own) | (read_tensors(shared) if shared else {})
        assert files.keys() == trained.state_dict().keys()
        assert all(np.array_equal(files[key], value) for key, value in trained.state_dict().items())
        expected = predict_probabilities(trained, torch.from_numpy(part.x))
        found = np.array([[a.probabilities[label] for label in LABELS] for a in predictor.predict(cases)])
        assert np.allclose(found, expected, rtol=1e-5, atol=1e-7)  # memory laid out otherwise
        assert (found.argmax(axis=1) == part.y).mean() == pytest.approx(
            report["cells"][arm]["accuracy"], abs=1e-12
        )


@EVERY
def test_resumed_equals_uninterrupted_to_the_last_bit(recorded, name, tmp_path):
    whole = recorded(name)
    cut = Recording(whole.spec, make_homes(tmp_path))
    cut.open_sites()
    cut.drive(ServerSession(cut.spec), last_round=2)
    cut.open_sites()  # everything starts anew: sites from their disk, the server from what it committed
    again = ServerSession(
        cut.spec,
        start_round=3,
        previous=cut.commits[2],
        records=cut.records,
        load_round=cut.commits.__getitem__,
    )
    cut.drive(again)
    assert cut.records == whole.records
    for wire, value in whole.commits[3].items():
        assert np.array_equal(cut.commits[3][wire], value), wire
    for arm in whole.spec.arms():
        for tensor, value in read_tensors(whole.personal_file("c", arm, 3)).items():
            assert np.array_equal(read_tensors(cut.personal_file("c", arm, 3))[tensor], value), tensor


@EVERY
def test_a_newcomer_gets_a_usable_model(recorded, name):
    """It has no part of its own yet; with Ditto, FedALA and FedCP it starts from what is common."""
    run = recorded(name)
    arm = run.spec.arms()[-1]
    loaded = run.sites["c"].models.load(arm, run.commits[3], 0)
    assert loaded.own_round is None
    model, x = loaded.algorithm, torch.from_numpy(run.sites["c"].validation.x)
    assert np.isfinite(predict_probabilities(model, x)).all()
    if name in {"ditto", "fedala"}:
        assert torch.allclose(model(x), model.head(model.base(model.scaler(x))), atol=1e-6)
    if name == "fedcp":
        assert torch.equal(model.head.weight, model.global_head.weight)


def test_algorithms_that_send_personal_parts_are_refused_without_masks():
    assert {name for name, entry in ALGORITHMS.items() if entry.needs_masking} == {"fedcp", "fedala"}
    for name in ("fedcp", "fedala"):
        with pytest.raises(SpecError, match="masked sums only"):
            check_masking(name, secure_aggregation=False)


@EVERY
def test_the_catalog_says_the_unit_of_privacy_truthfully(name):
    """ "record" needs a loss that is a mean over cases, each term of one case alone."""
    algorithm = build_algorithm(spec_of(name), spec_of(name).arms()[-1])
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(6, len(FEATURES), generator=generator), torch.tensor([0, 1, 0, 1, 1, 0])
    algorithm.begin_round([(x, y)])
    with torch.no_grad():
        for parameter in algorithm.parameters():  # away from the received model
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        torch.manual_seed(0)
        whole = algorithm.loss(x, y)
        alone = torch.stack([algorithm.loss(x[i : i + 1], y[i : i + 1]) for i in range(6)]).mean()
    separates = bool(torch.isclose(whole, alone, atol=1e-6))
    if ALGORITHMS[name].dp == "record":
        assert separates
    if name in {"dbe", "fedcp", "gpfl"}:
        assert ALGORITHMS[name].dp == "site"
        assert not separates


@EVERY
def test_every_setting_has_bounds_a_default_inside_and_words(name):
    for setting in ALGORITHMS[name].hyper_parameters:
        assert setting.title
        assert setting.help.endswith(".")
        for kind in (None, *TASKS):
            setting.check(setting.default_for(kind), name)


def test_a_setting_of_one_name_is_the_same_setting_everywhere():
    """The form has one field per name."""
    known = {}
    for entry in ALGORITHMS.values():
        for setting in entry.hyper_parameters:
            assert known.setdefault(setting.name, setting) == setting


def test_the_linter_knows_every_algorithm():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    independent = next(c["modules"] for c in contracts if c["name"] == "Algorithms do not know each other")
    assert set(independent) == {entry.path.partition(":")[0] for entry in ALGORITHMS.values()}
