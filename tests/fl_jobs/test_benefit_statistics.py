"""The statistics by simulation. CONSILIUM_STATS_N sets the repeats (200 here, 2000 for a full check)."""

import os

import numpy as np
import pytest
from scipy.stats import binom, kstest

from fl_jobs.benefit import answers_of, compare_arms, judge_federation
from fl_jobs.benefit.answers import Answers, average_seeds
from fl_jobs.benefit.resampling import swap_test
from fl_jobs.packaging.spec import AnalysisSpec

N = int(os.environ.get("CONSILIUM_STATS_N", "200"))
LABELS = ("benign", "malignant")
ANALYSIS = AnalysisSpec(draws=1000, swaps=999)


def at_most(found, rate, repeats=N):
    """Whether ``found`` of ``repeats`` is in keeping with a rate of at most ``rate`` (0.1 % by chance)."""
    return found <= binom.ppf(0.999, repeats, rate)


def draw(seed, *, groups, local, other, alike=0.7, cases=1, malignant=0.5):
    """A site: patients of ``cases`` images; both arms answer a patient alike with probability ``alike``."""
    generator = np.random.default_rng(seed)
    y_G = (np.arange(groups) < groups * malignant).astype(np.int64)
    luck_G, own_G = generator.random((2, groups))
    other_G = np.where(generator.random(groups) < alike, luck_G, own_G)
    noise_GK = generator.random((2, groups, cases)) < 0.1  # an image now and then differs from its patient
    right = [(luck_G < local)[:, None] ^ noise_GK[0], (other_G < other)[:, None] ^ noise_GK[1]]
    y = np.repeat(y_G, cases)
    predicted = {arm: np.where(r.ravel(), y, 1 - y) for arm, r in zip(("local", "x"), right, strict=True)}
    return answers_of(y, predicted, np.repeat(np.arange(groups), cases).astype(str), 2)


def truth(local, other):
    return 0.8 * (other - local)  # the noise turns 10 % of the answers round


def judged(seed, **site):
    return compare_arms(draw(seed, **site), "x", LABELS, ANALYSIS, seed=seed)


SITES = {
    "smallest": {"groups": 60, "local": 0.85, "other": 0.85},
    "few disagreements": {"groups": 80, "local": 0.97, "other": 0.97, "alike": 0.95},
    "middle": {"groups": 250, "local": 0.8, "other": 0.8},
    "several images": {"groups": 120, "local": 0.8, "other": 0.8, "cases": 4},
    "rare disease": {"groups": 300, "local": 0.8, "other": 0.8, "malignant": 0.12},
}


@pytest.mark.parametrize("name", SITES)
def test_sites_without_a_difference_are_seldom_called_helped_or_harmed(name):
    verdicts = [judged(seed, **SITES[name]).verdict for seed in range(N)]
    assert at_most(verdicts.count("helps"), 0.025)
    assert at_most(verdicts.count("harms"), 0.025)
    assert "cannot be tested here" not in verdicts


@pytest.mark.parametrize("gap", [-0.08, 0.0, 0.15])
@pytest.mark.parametrize("name", SITES)
def test_intervals_and_the_lower_bound_cover_the_truth(name, gap):
    site = SITES[name] | {"other": min(SITES[name]["local"] + gap, 1.0)}
    true = truth(site["local"], site["other"])
    found = [judged(seed, **site) for seed in range(N)]
    missed = sum(not f.low <= true <= f.high for f in found)
    assert at_most(missed, 0.06)  # 95 % nominal; a percentile interval may miss one in a hundred more
    assert at_most(sum(f.lower > true for f in found), 0.06)


def test_intervals_are_not_needlessly_wide_where_there_are_enough_patients():
    site = {"groups": 600, "local": 0.75, "other": 0.8}
    true = truth(0.75, 0.8)
    found = [judged(seed, **site) for seed in range(N)]
    missed = sum(not f.low <= true <= f.high for f in found)
    assert missed >= binom.ppf(0.001, N, 0.03)


def test_a_loss_of_the_margin_is_seldom_called_harmless():
    other = 0.8 - 0.02 / 0.8
    for site in ({"groups": 200}, {"groups": 1000, "alike": 0.9}):
        found = [judged(seed, local=0.8, other=other, **site).excludes_harm for seed in range(N)]
        assert at_most(sum(map(bool, found)), 0.06)


def test_p_is_uniform_without_a_difference():
    """Gains of many sizes, so that p hardly jumps; (b + 1) ÷ (m + 1) never falls below its level."""
    generator = np.random.default_rng(0)
    found = []
    for seed in range(N):
        cases = np.zeros((120, 2))
        cases[np.arange(120), np.arange(120) % 2] = 1.0
        gain = cases * generator.normal(size=(120, 1))
        found.append(swap_test(cases, gain, endpoint="balanced_accuracy", swaps=999, seed=seed)[0])
    assert kstest(found, "uniform").pvalue > 0.001
    for level in (0.01, 0.05, 0.2):
        assert at_most(sum(p <= level for p in found), level)


def test_p_of_few_swaps_by_hand():
    cases = np.tile([[1.0, 0.0], [0.0, 1.0]], (2, 1))
    gain = cases.copy()  # four groups, all won: 1 of 16 sign patterns is as extreme
    above, below = swap_test(cases, gain, endpoint="balanced_accuracy", swaps=20_000, seed=0)
    assert above == pytest.approx(1 / 16, abs=0.006)
    assert below == 1.0
    assert swap_test(cases, gain * 0, endpoint="accuracy", swaps=99, seed=0) == (1.0, 1.0)


def test_null_federations_are_seldom_declared_helped_anywhere_or_helpful():
    helped = helpful = harmed = 0
    for federation in range(max(N // 2, 100)):
        cells = {
            str(site): judged(1000 * federation + site, groups=150, local=0.8, other=0.8) for site in range(6)
        }
        verdict = judge_federation(cells)
        helped += bool(verdict.helped)
        harmed += bool(verdict.harmed)
        helpful += verdict.is_helpful
    assert at_most(helped, 0.025, max(N // 2, 100))
    assert at_most(harmed, 0.025, max(N // 2, 100))
    assert helpful == 0


def test_one_harmed_site_is_seldom_covered_by_no_site_harmed():
    """Nine sites gain, one loses exactly the margin: the statement must fail in 95 % of the federations."""
    holds = 0
    for federation in range(N // 2):
        seeds = range(1000 * federation, 1000 * federation + 9)
        cells = {str(seed): judged(seed, groups=400, local=0.7, other=0.85) for seed in seeds}
        cells["harmed"] = judged(1000 * federation + 9, groups=400, local=0.8, other=0.775)
        holds += judge_federation(cells).no_site_harmed == "holds"
    assert at_most(holds, 0.06, N // 2)


def test_power_grows_with_the_effect_and_with_the_patients():
    def power(groups, gap):
        return np.mean(
            [
                judged(seed, groups=groups, local=0.8, other=0.8 - gap).verdict == "harms"
                for seed in range(N // 4)
            ]
        )

    by_effect = [power(250, gap) for gap in (0.0, 0.05, 0.1, 0.2)]
    by_patients = [power(groups, 0.1) for groups in (80, 200, 600)]
    assert by_effect == sorted(by_effect)
    assert by_patients == sorted(by_patients)
    assert by_effect[-1] > 0.9
    assert by_patients[-1] > 0.9


def test_averaging_seeds_narrows_what_seeds_cause_and_nothing_else():
    """Two arms that are alike but for luck: five seeds shrink the noise of training, not that of patients."""
    widths, false = [], 0
    for repeat in range(N // 2):
        runs = [
            draw(100_000 + 50 * repeat + s, groups=150, local=0.8, other=0.8, alike=0.0) for s in range(5)
        ]
        one = compare_arms(runs[0], "x", LABELS, ANALYSIS, seed=repeat)
        five = compare_arms(average_seeds(runs), "x", LABELS, ANALYSIS, seed=repeat)
        widths.append((five.high - five.low) / (one.high - one.low))
        false += five.verdict in ("helps", "harms")
    assert 0.4 < np.mean(widths) < 0.6  # 1 ÷ √5 = 0.45, a little more for the further units
    assert at_most(false, 0.05, N // 2)
    same = Answers(runs[0].groups_G, runs[0].cases_GC, runs[0].right_GC)
    assert compare_arms(average_seeds([same] * 9), "x", LABELS, ANALYSIS, seed=0) == compare_arms(
        same, "x", LABELS, ANALYSIS, seed=0
    )
