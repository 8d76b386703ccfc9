"""Whole runs under differential privacy: what is refused, charged, noised and kept back."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

import fl_jobs.privacy.updates as updates
from fl_jobs.aggregation import gather
from fl_jobs.algorithms.separation import keeps_statistics
from fl_jobs.catalog import ALGORITHMS, MODELS
from fl_jobs.errors import DataError, PrivacyBudgetError, SharedStateError, SiteHomeError, SpecError
from fl_jobs.flare.outgoing import check_outgoing
from fl_jobs.flare.site_home import privacy_budget
from fl_jobs.masking.plans import accept_plan, first_clip, make_plan
from fl_jobs.models.build import build_model
from fl_jobs.packaging.spec import PrivacySpec, RunSpec
from fl_jobs.privacy.accountant import Releases, epsilon
from fl_jobs.privacy.ledger import Budget
from fl_jobs.privacy.noise import LONGEST
from fl_jobs.privacy.rules import planned_releases, site_noise_ratio, statement, units_of
from fl_jobs.server_session import ServerSession
from fl_jobs.simulate import run_in_process, with_tensors
from fl_jobs.site_session import SiteSession
from secure_agg.errors import SecureAggregationError
from tests.fl_jobs.privacy_runs import RECORD, SITE, names, private_spec
from tests.fl_jobs.sites import IMAGE, TEXT, image_home, make_spec, tabular_home, tabular_homes, write_table
from tests.fl_jobs.test_masking import Cohort


def open_site(spec, home, *, run="run", budget=None):
    return SiteSession(spec, run_id=run, site="a", site_home=home, share_site_metrics=True, budget=budget)


def first_order(spec):
    return ServerSession(spec).next_order()


def spent(spec):
    return epsilon(planned_releases(spec), spec.policy.privacy.delta)


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


@pytest.mark.parametrize("model", sorted(MODELS))
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


@pytest.mark.parametrize("policy", [{}, {"privacy_budget": None}, {"share_site_metrics": False}])
def test_without_a_budget_in_its_policy_a_site_has_none(tmp_path, policy):
    (tmp_path / "site.json").write_text(json.dumps({"policy": policy}))
    assert privacy_budget(tmp_path) is None


def test_the_budget_stands_in_the_sites_policy(tmp_path):
    path = tmp_path / "site.json"
    path.write_text(json.dumps({"policy": {"privacy_budget": {"epsilon": 8, "delta": 1e-6}}}))
    assert privacy_budget(tmp_path) == Budget(8.0, 1e-6)
    for bad in ({"epsilon": 8}, {"epsilon": "x", "delta": 0.1}, {"epsilon": 0, "delta": 0.1}, 8):
        path.write_text(json.dumps({"policy": {"privacy_budget": bad}}))
        with pytest.raises(SiteHomeError, match="Correct it"):
            privacy_budget(tmp_path)


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
    text = {"name": "train", "phase": None, "lanes": {"samples": 1.0, "one": 1.0}}
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


# Whole sites


def test_a_sites_update_is_clipped_as_a_whole_and_noised_with_its_share(monkeypatch):
    spec = private_spec("dbe", masked=True, privacy=SITE)
    generator = np.random.default_rng(1)
    base = {wire: generator.normal(size=t.shape).astype(np.float32) for wire, t in spec.shared().items()}
    far = {
        wire: value + generator.normal(size=value.shape).astype(np.float32) for wire, value in base.items()
    }
    scales = []
    monkeypatch.setattr(updates, "add_gaussian", lambda values, scale: scales.append(scale) or values)
    out = updates.noised_update(spec, far, base)
    change = np.concatenate([(out[wire] - base[wire]).ravel() for wire in sorted(base)])
    wanted = np.concatenate([(far[wire] - base[wire]).ravel() for wire in sorted(base)])
    assert np.linalg.norm(change) == pytest.approx(1.0, rel=1e-4)
    np.testing.assert_allclose(change, wanted / np.linalg.norm(wanted), atol=1e-5)
    assert scales == [pytest.approx(2.0 * 1.0 / np.sqrt(2))]  # of four sites three answer, one may collude
    near = {wire: value + np.float32(1e-4) for wire, value in base.items()}
    out = updates.noised_update(spec, near, base)
    np.testing.assert_allclose(out["global/head.bias"], near["global/head.bias"], atol=1e-6)


def test_the_sum_over_the_fewest_honest_sites_has_the_promised_noise():
    spec = private_spec(masked=True, privacy=SITE)
    zeros = {wire: np.zeros(t.shape, np.float32) for wire, t in spec.shared().items()}
    sums = []
    for _ in range(200):
        honest = [updates.noised_update(spec, zeros, zeros) for _ in range(2)]
        sums.append(np.concatenate([sum(site[wire] for site in honest).ravel() for wire in sorted(zeros)]))
    drawn = np.concatenate(sums).astype(np.float64)
    chi2 = (drawn**2).sum() / 2.0**2
    assert chi2 == pytest.approx(len(drawn), abs=6 * np.sqrt(2 * len(drawn)))


def test_the_encodings_clip_never_cuts_the_noise_off():
    spec = private_spec(masked=True, privacy=SITE | {"noise_multiplier": 30.0})
    order = first_order(spec)
    longest = updates.WHOLE_PARAMETER + 1.0 + LONGEST * 30.0 / np.sqrt(2)
    assert 2 ** first_clip(spec, order) >= longest > 2**4
    small = make_plan(spec, order, site_count=4, log2_clip=4)
    with pytest.raises(SecureAggregationError, match="cut off noise"):
        accept_plan(spec, order, small, site_count=4)
    accept_plan(
        spec, order, make_plan(spec, order, site_count=4, log2_clip=first_clip(spec, order)), site_count=4
    )


@pytest.mark.parametrize(("algorithm", "privacy"), [("dbe", SITE), ("fedavg", SITE), ("fedavg", RECORD)])
def test_a_masked_private_run_goes_to_its_end(tmp_path, algorithm, privacy):
    spec = private_spec(algorithm, masked=True, privacy=privacy)
    cohort, server = Cohort(spec, tabular_homes(tmp_path, ("a", "b", "c", "d"))), ServerSession(spec)
    kinds, record = [], {}
    while (order := server.next_order()) is not None:
        gathered = cohort.gather(order)
        assert gathered.metrics == {}
        assert set(gathered.sums.weights.values()) <= {4.0}
        kinds.append(order.name)
        record = server.fold(order, gathered).record
    assert kinds[-3:] == ["train", "validate", "finish"]
    assert record["kind"] == "finish"


# What is said


def test_the_statement_names_epsilon_unit_adjacency_and_delta():
    spec = private_spec()
    words = statement(spec, 3)
    assert f"ε = {spent(spec):.2f} at δ = 1e-05" in words
    assert "adding or removing one patient of a site's registered training part" in words
    assert "all arms" in words


def test_four_sites_are_told_that_whole_site_noise_leaves_no_accuracy():
    spec = private_spec(masked=True, privacy=SITE)
    numbers = sum(t.size for t in spec.shared().values())
    assert site_noise_ratio(spec, 4) == pytest.approx(2.0 / np.sqrt(2) * np.sqrt(numbers * 4) / 4)
    words = statement(spec, 4)
    assert "1 of 4 sites" in words
    assert "No useful accuracy is to be expected." in words
