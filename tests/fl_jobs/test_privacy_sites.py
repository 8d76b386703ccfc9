"""Whole sites under differential privacy, and what every private run says about itself."""

import numpy as np
import pytest

import fl_jobs.privacy.updates as updates
from fl_jobs.catalog import ALGORITHMS
from fl_jobs.masking.plans import accept_plan, first_clip, make_plan
from fl_jobs.privacy.noise import LONGEST
from fl_jobs.privacy.rules import site_noise_ratio, statement, units_of
from fl_jobs.server_session import ServerSession
from fl_jobs.simulate import run_in_process
from fl_jobs.site_session import SiteSession
from secure_agg.errors import SecureAggregationError
from tests.fl_jobs.privacy_runs import RECORD, SITE, first_order, private_spec, spent
from tests.fl_jobs.sites import tabular_homes
from tests.fl_jobs.test_masking import Cohort


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


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if "site" in units_of(name)])
def test_every_algorithm_that_protects_sites_runs_and_lets_only_noise_out(tmp_path, name):
    spec, homes = private_spec(name, masked=True, privacy=SITE), tabular_homes(tmp_path)
    assert run_in_process(spec, homes)[-1]["kind"] == "finish"
    order, again = first_order(spec), []
    for number in range(2):
        site = SiteSession(
            spec, run_id=f"new-{number}", site="a", site_home=homes["a"], share_site_metrics=True
        )
        again.append(site.execute(order).tensors)
    # training alone is repeatable: what differs in every number is the noise
    assert all(np.mean(again[0][wire] != again[1][wire]) > 0.99 for wire in again[0])


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
