"""Choosing an arm on validation."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from fl_jobs.benefit import answers_of
from fl_jobs.choosing import Gain, choose, fold_of_groups, gains, pool_sites


@pytest.mark.parametrize(
    ("found", "arm"),
    [
        ({}, "local"),
        ({"global": Gain(0.02, 0.03), "personal": Gain(0.01, 0.001)}, "local"),
        ({"global": Gain(0.04, 0.03), "personal": Gain(0.03, 0.001)}, "global"),
        ({"global": Gain(0.04, 0.03), "personal": Gain(0.05, 0.03)}, "personal"),
        ({"global": Gain(-0.04, 0.01)}, "local"),
        ({"global": Gain(0.0, 0.0)}, "local"),
    ],
)
def test_the_best_arm_must_be_one_standard_error_above_local_only(found, arm):
    assert choose(found) == arm


def test_the_standard_error_is_that_of_groups():
    generator = np.random.default_rng(0)
    y = np.arange(2000) % 2
    local, other = (np.where(generator.random(2000) < share, y, 1 - y) for share in (0.7, 0.8))
    found = gains(
        answers_of(y, {"local": local, "x": other}, np.arange(2000).astype(str), 2), "balanced_accuracy"
    )
    expected = math.sqrt((0.7 * 0.3 + 0.8 * 0.2) / 2000)
    assert found["x"].error == pytest.approx(expected, rel=0.05)
    whole = np.repeat(np.arange(200), 10).astype(str)
    blocks = np.repeat(generator.random((2, 200)), 10, axis=1)
    y = np.repeat(np.arange(200) % 2, 10)
    local, other = (np.where(b < share, y, 1 - y) for b, share in zip(blocks, (0.7, 0.8), strict=True))
    by_group = gains(answers_of(y, {"local": local, "x": other}, whole, 2), "balanced_accuracy")
    assert by_group["x"].error == pytest.approx(expected * math.sqrt(10), rel=0.1)


def test_without_local_only_there_is_no_gain():
    y = np.arange(4) % 2
    assert gains(answers_of(y, {"x": y}, y.astype(str), 2), "accuracy") == {}


def test_each_group_is_held_out_once_and_strata_are_even():
    groups = [f"g{n}" for n in range(103)]
    strata = [int(n % 4 == 0) for n in range(103)]
    fold = fold_of_groups(groups, strata, 5, seed=3)
    assert set(fold) == set(range(5))
    for stratum in (0, 1):
        counts = np.bincount(fold[np.array(strata) == stratum], minlength=5)
        assert counts.max() - counts.min() <= 1
    turned = fold_of_groups(groups[::-1], strata[::-1], 5, seed=3)
    assert np.array_equal(turned[::-1], fold)
    assert not np.array_equal(fold_of_groups(groups, strata, 5, seed=4), fold)


def test_one_site_is_not_pooled():
    found = pool_sites({"a": Gain(0.03, 0.02)}, 0.02)["a"]
    assert found.value == 0.03
    assert found.p_gain == pytest.approx(norm.cdf(1.5))
    assert found.p_harm == pytest.approx(norm.cdf(-2.5))


def test_equal_sites_make_each_other_surer():
    found = pool_sites({name: Gain(0.03, 0.02) for name in "abcdefgh"}, 0.02)
    assert found["a"].value == pytest.approx(0.03)
    assert 0.02 / math.sqrt(8) < found["a"].deviation < 0.015
    assert found["a"].p_gain > pool_sites({"a": Gain(0.03, 0.02)}, 0.02)["a"].p_gain


def test_sites_that_differ_keep_most_of_their_own_figure():
    found = pool_sites({"a": Gain(0.2, 0.01), "b": Gain(-0.2, 0.01), "c": Gain(0.0, 0.01)}, 0.02)
    assert found["a"].value == pytest.approx(0.2, abs=0.003)
    assert found["b"].p_harm > 0.99
    noisy = pool_sites({"a": Gain(0.05, 0.01), "b": Gain(0.06, 0.01), "c": Gain(-0.10, 0.1)}, 0.02)
    assert noisy["c"].value > 0.01  # one small site with a noisy loss learns from the others


def test_pooled_probabilities_mean_what_they_say():
    """Simulated federations of eight sites: P(gain > 0) is calibrated, a 95 % interval covers about that."""
    generator = np.random.default_rng(0)
    said, true, covered = [], [], []
    for _ in range(400):
        error = generator.uniform(0.02, 0.06, 8)
        effect = generator.normal(0.01, 0.04, 8)
        seen = generator.normal(effect, error)
        cells = {str(s): Gain(float(seen[s]), float(error[s])) for s in range(8)}
        for s, pooled in pool_sites(cells, 0.02).items():
            said.append(pooled.p_gain)
            true.append(effect[int(s)] > 0)
            covered.append(abs(effect[int(s)] - pooled.value) < 1.96 * pooled.deviation)
    said, true = np.array(said), np.array(true)
    assert 0.935 < np.mean(covered) < 0.965
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        inside = (said >= low) & (said < high)
        assert abs(said[inside].mean() - true[inside].mean()) < 0.09
