"""Which arm a site should use, from validation alone; torch-free. The test part then confirms or refuses it.

Evidence is a paired gain over local-only on groups no model trained on: of a real run the validation part, in
the simulator the held-out groups of a group-k-fold inside training and validation (``fold_of_groups``,
``fl_jobs.benefit.answers.join_folds``). Suffixes: G = group, S = site.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_jobs.benefit.answers import LOCAL, Answers, rate
from fl_jobs.benefit.resampling import PAIRED, standard_error
from fl_jobs.packaging.spec import Endpoint

STEPS = 200  # of the bisection; the variance is then exact to double precision


@dataclass(frozen=True)
class Gain:
    """An arm minus local-only on validation, with its standard error over groups."""

    value: float
    error: float


@dataclass(frozen=True)
class PooledGain:
    """A site's true gain as the sites together let one guess it: a normal distribution."""

    value: float
    deviation: float
    p_gain: float
    p_harm: float


def fold_of_groups(
    groups_G: Sequence[str], stratum_G: Sequence[int], folds: int, *, seed: int
) -> NDArray[np.int64]:
    """The fold (0 … ``folds`` − 1) each group is held out in; strata are spread evenly, no group is divided.

    Within a stratum groups stand in the order of SHA-256(seed, group), so that the answer does not depend on
    the order of rows.
    """
    fold_G = np.zeros(len(groups_G), dtype=np.int64)
    dealt = 0
    for stratum in sorted(set(stratum_G)):
        members = [place for place, found in enumerate(stratum_G) if found == stratum]
        members.sort(key=lambda place: hashlib.sha256(f"{seed}\n{groups_G[place]}".encode()).digest())
        for place in members:
            fold_G[place] = dealt % folds
            dealt += 1
    return fold_G


def gains(answers: Answers, endpoint: Endpoint) -> dict[str, Gain]:
    """Each arm's gain over local-only; empty where local-only was not measured."""
    if LOCAL not in answers.right_GC:
        return {}
    found: dict[str, Gain] = {}
    for arm in sorted(answers.right_GC.keys() - {LOCAL}):
        gain_GC = answers.gain_GC(arm)
        value = rate(answers.cases_GC.sum(axis=0), gain_GC.sum(axis=0), endpoint)
        error = standard_error(answers.cases_GC, gain_GC, answers.stratum_G, endpoint=endpoint, added=PAIRED)
        found[arm] = Gain(float(value), error)
    return found


def choose(found: Mapping[str, Gain]) -> str:
    """The arm with the largest gain if it is more than one standard error above local-only, else local-only.

    The one-standard-error rule of Breiman et al. (Classification and Regression Trees, 1984, section 3.4.3)
    with local-only as the simplest model; the error is that of the paired difference.
    """
    best = min(found, key=lambda arm: (-found[arm].value, arm), default=LOCAL)
    return best if best != LOCAL and found[best].value > found[best].error else LOCAL


def pool_sites(found: Mapping[str, Gain], margin: float) -> dict[str, PooledGain]:
    """Partially pooled gains of one arm over sites: P(gain > 0) and P(harm > margin) for each.

    Empirical Bayes, normal–normal (Efron & Morris, JASA 70, 1975): gain_s ~ N(true_s, error_s²) and
    true_s ~ N(mean, between²). ``between²`` is Paule & Mandel's (1982) moment estimate. The posterior
    variance (1 − B) error² + B² Var(mean), B = error² ÷ (error² + between²), counts the uncertainty of the
    mean; that of ``between²`` is not counted, which flatters federations of few sites. One site alone is
    not pooled.
    """
    sites = sorted(found)
    values_S = np.array([found[site].value for site in sites])
    variance_S = np.maximum(np.array([found[site].error for site in sites]) ** 2, 1e-12)
    if len(sites) < 2:
        return {
            s: _normal(found[s].value, float(np.sqrt(v)), margin)
            for s, v in zip(sites, variance_S, strict=True)
        }
    between = _between(values_S, variance_S)
    weight_S = 1 / (variance_S + between)
    mean = float(weight_S @ values_S / weight_S.sum())
    shrink_S = variance_S * weight_S
    centre_S = shrink_S * mean + (1 - shrink_S) * values_S
    spread_S = np.sqrt((1 - shrink_S) * variance_S + shrink_S**2 / weight_S.sum())
    return {
        site: _normal(float(c), float(d), margin)
        for site, c, d in zip(sites, centre_S, spread_S, strict=True)
    }


def _between(values_S: NDArray[np.float64], variance_S: NDArray[np.float64]) -> float:
    """Where Σ (value − mean)² ÷ (error² + between²) equals the number of sites − 1; 0 if nowhere."""

    def excess(between: float) -> float:
        weight_S = 1 / (variance_S + between)
        mean = weight_S @ values_S / weight_S.sum()
        return float(weight_S @ (values_S - mean) ** 2) - (len(values_S) - 1)

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, float(np.ptp(values_S)) ** 2 * len(values_S)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low + high) / 2


def _normal(value: float, deviation: float, margin: float) -> PooledGain:
    def below(edge: float) -> float:
        return 0.5 * math.erfc((value - edge) / (deviation * math.sqrt(2)))

    return PooledGain(value, deviation, p_gain=1 - below(0.0), p_harm=below(-margin))
