"""Whole runs under differential privacy: what is refused, charged, noised and kept back."""

import numpy as np
import pytest
from pydantic import ValidationError

from fl_jobs.aggregation import gather
from fl_jobs.algorithms.separation import keeps_statistics
from fl_jobs.catalog import ALGORITHMS, MODELS
from fl_jobs.errors import DataError, PrivacyBudgetError, SharedStateError, SpecError
from fl_jobs.flare.outgoing import check_outgoing
from fl_jobs.models.build import build_model
from fl_jobs.packaging.spec import PrivacySpec, RunSpec
from fl_jobs.privacy.accountant import Releases, epsilon
from fl_jobs.privacy.ledger import Budget
from fl_jobs.privacy.rules import planned_releases, units_of
from fl_jobs.server_session import ServerSession
from fl_jobs.simulate import run_in_process, with_tensors
from fl_jobs.site_session import SiteSession
from tests.fl_jobs.privacy_runs import RECORD, SITE, first_order, names, private_spec, spent
from tests.fl_jobs.sites import IMAGE, TEXT, image_home, make_spec, tabular_home, tabular_homes, write_table


def open_site(spec, home, *, run="run", budget=None):
    return SiteSession(spec, run_id=run, site="a", site_home=home, share_site_metrics=True, budget=budget)


# What is refused


@pytest.mark.parametrize("unit", ["record", "site"])
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_takes_the_units_the_catalog_says_and_no_other(name, unit):
    entry, privacy = ALGORITHMS[name], RECORD if unit == "record" else SITE

    def make():
        return private_spec(name, privacy=privacy, masked=not entry.needs_updates)

    if unit in units_of(name):
        assert make().policy.privacy.unit == unit
    else:
        with pytest.raises(SpecError, match=r"does not hold for|no differential privacy to promise"):
            make()


@pytest.mark.parametrize("model", sorted(name for name in MODELS if not MODELS[name].needs_weights))
def test_every_model_is_either_private_or_refused_with_its_layer(model):
    kind = MODELS[model].kinds[0]
    spec = private_spec(task={"image": IMAGE, "text": TEXT}.get(kind, make_spec().study.task), tensors=False)
    named = spec.model_copy(update={"model": spec.model.model_copy(update={"name": model, "arguments": {}})})
    if any(keeps_statistics(module) for module in build_model(named).modules()):
        with pytest.raises(SpecError, match="Choose group normalisation"):
            with_tensors(named)
    else:
        assert with_tensors(named).tensors


@pytest.mark.parametrize(
    ("change", "settings", "sentence"),
    [
        ({}, {"class_weights": "balanced"}, "Balanced class weights"),
        ({"scaling": ()}, {}, "public centre and spread for each of the 6 inputs; 0 are given"),
        ({"epsilon_max": 0.5}, {}, "may spend 0.5"),
        ({"scaling": ((0.0, 1.0),) * 5}, {}, "5 are given"),
    ],
)
def test_a_promise_that_is_not_true_is_refused(change, settings, sentence):
    with pytest.raises(SpecError, match=sentence):
        private_spec(privacy=RECORD | change, **settings)


def test_whole_sites_need_masks():
    with pytest.raises(SpecError, match="needs secure aggregation"):
        private_spec(privacy=SITE)


@pytest.mark.parametrize(
    "change",
    [{"noise_multiplier": 0.1}, {"noise_multiplier": float("nan")}, {"clip_norm": 0.0}, {"delta": 0.5},
     {"sample_rate": 0.0}, {"epsilon_max": 0.0}, {"scaling": ((0.0, 0.0),)}, {"unit": "case"},
     {"unit": "site"}],
)  # fmt: skip
def test_values_without_a_meaning_are_refused(change):
    with pytest.raises(ValidationError):
        PrivacySpec(**(RECORD | change))


def test_data_that_names_no_patients_is_refused(tmp_path):
    from fl_jobs.data import register
    from tests.fl_jobs.sites import tabular_rows

    write_table(tmp_path / "data" / "cases", tabular_rows(), group=None)
    register(tmp_path / "data" / "cases", tmp_path / "registered")
    spec = private_spec()
    with pytest.raises(DataError, match="same patient"):
        open_site(spec, tmp_path).execute(first_order(spec))


def test_privacy_is_part_of_the_digest():
    digests = {private_spec(privacy=RECORD | {"noise_multiplier": noise}).digest() for noise in (1.0, 1.5)}
    assert len(digests | {make_spec("fedavg").digest()}) == 3
    spec = private_spec()
    assert RunSpec.model_validate_json(spec.canonical()) == spec


# What is charged


def test_orders_are_charged_before_training_and_again_when_repeated(tmp_path, monkeypatch):
    spec = private_spec()
    site = open_site(spec, tabular_home(tmp_path))
    order = first_order(spec)

    def dies(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(SiteSession, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        site.execute(order)
    monkeypatch.undo()
    steps = 2 * 4  # two passes at a sampling rate of a quarter, one arm
    assert site.privacy.ledger.spent(1e-5) == pytest.approx(epsilon([Releases(0.25, 1.0, steps)], 1e-5))
    first, second = (open_site(spec, tmp_path).execute(order) for _ in range(2))
    assert site.privacy.ledger.spent(1e-5) == pytest.approx(epsilon([Releases(0.25, 1.0, 3 * steps)], 1e-5))
    assert all(np.all(first.tensors[name] != second.tensors[name]) for name in first.tensors)


def test_all_arms_and_phases_are_charged_together(tmp_path):
    spec = private_spec("dbe", masked=True, privacy=SITE)
    # FedAvg and DBE leave in one clipped update a round; DBE's mean is a release of its own
    assert sum(each.count for each in planned_releases(spec)) == spec.rounds + 1
    homes = tabular_homes(tmp_path)
    run_in_process(spec, homes)
    site = SiteSession(spec, run_id="x", site="a", site_home=homes["a"], share_site_metrics=False)
    own = epsilon([Releases(1.0, 2.0, spec.rounds + 1)], 1e-5)
    assert spent(spec) == pytest.approx(own)
    assert site.privacy.ledger.spent(1e-5) == pytest.approx(
        epsilon([Releases(1.0, 1.0, spec.rounds + 1)], 1e-5)
    )


def test_a_run_the_site_cannot_afford_is_refused_before_its_first_step(tmp_path, monkeypatch):
    spec, home = private_spec(), tabular_home(tmp_path)
    site = open_site(spec, home, budget=Budget(spent(spec) * 0.9, 1e-5))
    monkeypatch.setattr(SiteSession, "train", lambda *a, **k: pytest.fail("trained without a budget"))
    with pytest.raises(PrivacyBudgetError, match="privacy budget"):
        site.execute(first_order(spec))
    assert site.privacy.ledger.spent(1e-5) == 0.0


def test_a_site_with_a_budget_takes_no_part_in_runs_without_privacy(tmp_path):
    home, budget = tabular_home(tmp_path), Budget(8.0, 1e-5)
    with pytest.raises(SpecError, match="has no differential privacy"):
        open_site(make_spec("fedavg"), home, budget=budget)
    open_site(make_spec("local_only"), home, budget=budget)  # nothing leaves: nothing to pay


# What leaves


@pytest.mark.parametrize("name", names("record"))
def test_under_patient_privacy_no_count_and_no_measurement_leaves(tmp_path, name):
    spec, homes = private_spec(name), tabular_homes(tmp_path)
    server = ServerSession(spec)
    sites = {name: open_site(spec, home) for name, home in homes.items()}
    kinds = []
    while (order := server.next_order()) is not None:
        answers = {name: site.execute(order) for name, site in sites.items()}
        kinds.append(order.name)
        for answer in answers.values():
            assert answer.lanes == {"samples": 1.0, "one": 1.0}
            assert answer.metrics["sums"] == {}
            site = answer.metrics["site"]
            if order.name != "finish":
                assert site is None
            else:
                assert {key for key, value in site["finish"].items() if value} <= {"files", "shared_sha256"}
        record = server.fold(order, gather(order, spec, answers)).record
    assert kinds == ["train", "train", "validate", "finish"]
    assert set(record["chosen"].values()) == {spec.rounds}
    assert record["cohort"] == {}


def test_the_gate_keeps_what_a_private_run_withholds():
    spec = private_spec()
    tensors = {wire: np.zeros(t.shape, np.float32) for wire, t in spec.shared().items()}
    text = {"name": "train", "phase": "train", "round": 1, "lanes": {"samples": 1.0, "one": 1.0}}
    text["metrics"] = {"sums": {}, "site": None, "initial_sha256": "0" * 64}

    def check(**changes):
        check_outgoing(text | changes, tensors, spec, "train", share_site_metrics=True)

    check()
    with pytest.raises(SharedStateError, match="number of cases stays"):
        check(lanes={"samples": 36.0, "one": 1.0})
    with pytest.raises(SharedStateError, match="sums of global"):
        check(metrics=text["metrics"] | {"sums": {"global": {"train_loss": 1.0}}})
    with pytest.raises(SharedStateError, match="keeps its own metrics"):
        check(metrics=text["metrics"] | {"site": {"trained": {}}})


def test_digests_of_private_parts_are_salted(tmp_path):
    spec = private_spec()
    reports = []
    for name in ("one", "two"):
        home = tabular_home(tmp_path / name)
        records = run_in_process(spec, {"a": home, "b": tabular_home(tmp_path / f"{name}-b", seed=1)})
        reports.append(records[-1]["sites"]["a"]["files"])
    # the local arm is trained without noise: the same data and seed give the same part, never the same digest
    assert reports[0]["local"]["personal_sha256"] != reports[1]["local"]["personal_sha256"]


def test_the_scaling_of_what_leaves_is_the_public_one(tmp_path):
    scaling = tuple((0.5 * i, 2.0) for i in range(6))
    spec = private_spec(privacy=RECORD | {"scaling": scaling})
    models = open_site(spec, tabular_home(tmp_path)).models
    leaves, stays = (models.load(arm, {}, 0).algorithm.scaler for arm in ("global", "local"))
    assert leaves.mean.tolist() == [0.5 * i for i in range(6)]
    assert leaves.std.tolist() == [2.0] * 6
    assert stays.mean.tolist() != leaves.mean.tolist()


def test_images_and_texts_train_privately(tmp_path):
    spec = private_spec(task=IMAGE, rounds=1)
    home = image_home(tmp_path / "image")
    answer = open_site(spec, home).execute(first_order(spec))
    assert all(np.isfinite(value).all() for value in answer.tensors.values())
