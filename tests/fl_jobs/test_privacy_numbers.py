"""The accountant against published values, the noise against its distribution."""

import math

import numpy as np
import pytest
from scipy import stats

from fl_jobs.privacy.accountant import ORDERS, Releases, epsilon, renyi
from fl_jobs.privacy.noise import GRID_BITS, LONGEST, add_gaussian, poisson_sample
from fl_jobs.privacy.rules import honest_shares

# Opacus 1.6.0, opacus.accountants.analysis.rdp: compute_rdp(q, noise_multiplier, steps=1, orders=[2, 8, 32])
# and get_privacy_spent(delta=1e-5) at its own orders (1.1 … 10.9, 12 … 63)
OPACUS = [
    (0.01, 1.1, 10_000, (1.28510082e-04, 5.84070336e-04, 8.46941643e00), 5.63199),
    (0.25, 1.0, 30, (0.10200826, 2.4188394, 14.56898647), 10.92274),
    (0.1, 2.0, 400, (0.00283623, 0.01372543, 1.6272023), 5.33581),
    (1.0, 5.0, 60, (0.04, 0.16, 0.64), 7.88441),
    (0.05, 0.8, 600, (9.38267764e-03, 2.82669371e00, 2.19076312e01), 14.62435),
    (256 / 60_000, 1.1, 14_040, (2.33957760e-05, 9.83410618e-05, 7.59018835e00), 2.59436),
]


@pytest.mark.parametrize(("rate", "noise", "count", "at_orders", "spent"), OPACUS)
def test_accountant_agrees_with_opacus(rate, noise, count, at_orders, spent):
    found = [renyi(rate, noise)[ORDERS.index(order)] for order in (2, 8, 32)]
    assert found == pytest.approx(at_orders, rel=1e-6)
    total = epsilon([Releases(rate, noise, count)], 1e-5)
    assert spent * (1 - 1e-4) <= total <= spent * 1.08  # whole orders only: never below, a little above


def test_abadis_example_of_mnist_is_in_range():
    # Abadi et al. 2016, figure 2: q = 0.01, σ = 4, δ = 1e-5, 100 epochs: moments accountant ε ≈ 1.26
    assert epsilon([Releases(0.01, 4.0, 10_000)], 1e-5) == pytest.approx(1.26, rel=0.25)


def test_plain_gaussian_has_the_closed_form():
    order = ORDERS.index(6)
    assert renyi(1.0, 3.0)[order] == pytest.approx(6 / (2 * 9))
    # at q just below 1 the series must reach it
    assert renyi(1.0 - 1e-12, 3.0)[order] == pytest.approx(6 / (2 * 9), rel=1e-6)


def test_renyi_matches_numerical_integration():
    rate, noise, order = 0.2, 1.5, 4
    z = np.linspace(-40, 40, 400_001)
    base = stats.norm.pdf(z, 0, noise)
    mixed = (1 - rate) * base + rate * stats.norm.pdf(z, 1, noise)
    with np.errstate(divide="ignore", invalid="ignore"):
        integrand = np.nan_to_num(base * (mixed / base) ** order)
    value = math.log(np.trapezoid(integrand, z)) / (order - 1)
    assert renyi(rate, noise)[ORDERS.index(order)] == pytest.approx(value, rel=1e-6)


def test_epsilon_grows_with_releases_and_falls_with_noise():
    def cost(noise, count):
        return epsilon([Releases(0.1, noise, count)], 1e-5)

    assert 0 < cost(1.0, 10) < cost(1.0, 20) < cost(0.8, 20)
    together = epsilon([Releases(0.1, 1.0, 10), Releases(0.1, 1.0, 10)], 1e-5)
    assert together == pytest.approx(cost(1.0, 20))
    assert epsilon([], 1e-5) == epsilon([Releases(0.1, 1.0, 0)], 1e-5) == 0.0


def test_noise_has_its_scale_and_shape():
    count, scale = 200_000, 3.7
    drawn = add_gaussian(np.full(count, 5.0), scale)
    # χ² of the variance: with 200 000 draws the two-sided p of a right scale is above 1e-6 nearly always
    statistic = ((drawn - 5.0) ** 2).sum() / scale**2
    assert 1e-6 < stats.chi2.cdf(statistic, count) < 1 - 1e-6
    assert stats.kstest((drawn - 5.0) / scale, "norm").pvalue > 1e-6
    tails = np.abs(drawn - 5.0) / scale
    assert 3.5 < tails.max() < LONGEST


def test_noise_lies_on_its_grid_and_never_repeats():
    scale = 0.75
    grid = 2.0 ** (math.floor(math.log2(scale)) - GRID_BITS)
    first, second = (add_gaussian(np.full((4, 5), 1 / 3), scale) for _ in range(2))
    assert first.shape == (4, 5)
    assert np.array_equal(first / grid, np.rint(first / grid))
    assert not np.any(first == second)


def test_the_longest_noise_is_bounded():
    from scipy.special import ndtri

    assert -ndtri(0.5 * 2.0**-64) < LONGEST


def test_poisson_sampling_takes_each_by_itself():
    sizes = [len(poisson_sample(200, 0.3)) for _ in range(2000)]
    assert np.mean(sizes) == pytest.approx(60, abs=1.0)
    assert np.var(sizes) == pytest.approx(200 * 0.3 * 0.7, rel=0.25)
    assert list(poisson_sample(5, 1.0)) == [0, 1, 2, 3, 4]
    assert len(poisson_sample(0, 0.5)) == 0


def test_shares_of_noise_are_those_no_colluder_knows():
    # roster 4 with fewest 3: 3 answers suffice, 1 colludes
    assert honest_shares(3) == 2
    assert honest_shares(4) == 3
    assert honest_shares(10) == 6
