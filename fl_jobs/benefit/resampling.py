"""Interval, standard error and test over groups.

Suffixes: G = group, U = unit that is drawn (groups that count alike), C = class, R = draw.

Interval: percentile bootstrap of whole groups (Efron & Tibshirani 1993, chapter 13), drawn within the
strata of the groups' most frequent label. Where arms differ in a few groups only (or in none) the plain
bootstrap has too little spread: 40 patients without one difference would "prove" a difference of exactly
zero. So each stratum gets two further units before it is drawn, as Agresti & Min (Statistics in Medicine 24,
2005) do for paired proportions: half a group won, half a group lost and one unchanged for a difference; one
all right and one all wrong for a level. With n groups a stratum draws n + 2 units.

Test: under "both arms are alike" a group's answers of the two arms may be swapped. Signs are drawn at random,
p = (b + 1) ÷ (m + 1) with b draws at least as extreme among m (Phipson & Smyth, SAGMB 9, 2010).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fl_jobs.benefit.answers import Floats, influence, rate
from fl_jobs.packaging.spec import Endpoint

CHUNK = 200
PAIRED = ((0.5, 1.0), (0.5, -1.0), (1.0, 0.0))  # weight of a further unit, share of its cases it gains
LEVEL = ((1.0, 1.0), (1.0, 0.0))
Added = tuple[tuple[float, float], ...]


def draw_endpoint(
    cases_GC: Floats, right_GC: Floats, stratum_G: NDArray[np.int64], *, endpoint: Endpoint, draws: int,
    added: Added, seed: int,
) -> Floats:  # fmt: skip
    """The endpoint in ``draws`` bootstrap samples."""
    cases_UC, right_UC, weight_U, stratum_U = _extend(cases_GC, right_GC, stratum_G, added)
    generator = np.random.default_rng(seed)
    pieces = [
        rate(times_RU @ cases_UC, times_RU @ right_UC, endpoint)
        for times_RU in _draws(weight_U, stratum_U, draws, generator)
    ]
    return np.concatenate(pieces)[:draws]


def standard_error(
    cases_GC: Floats, right_GC: Floats, stratum_G: NDArray[np.int64], *, endpoint: Endpoint, added: Added
) -> float:
    """Linearised standard error over groups within strata, with the same further units."""
    cases_UC, right_UC, weight_U, stratum_U = _extend(cases_GC, right_GC, stratum_G, added)
    _, deviations_U = influence(cases_UC, right_UC, weight_U, endpoint)
    variance = 0.0
    for stratum in np.unique(stratum_U):
        inside = stratum_U == stratum
        units, values = weight_U[inside], deviations_U[inside]
        centre = (units @ values) / units.sum()
        variance += float(units @ (values - centre) ** 2)
    return float(np.sqrt(variance))


def swap_test(
    cases_GC: Floats, gain_GC: Floats, *, endpoint: Endpoint, swaps: int, seed: int
) -> tuple[float, float]:
    """One-sided p-values of gain > 0 and of gain < 0."""
    shares_G, _ = influence(cases_GC, gain_GC, np.ones(len(cases_GC)), endpoint)
    moved_G = shares_G[shares_G != 0]
    if not len(moved_G):
        return 1.0, 1.0
    observed, slack = float(moved_G.sum()), 1e-9 * float(np.abs(moved_G).sum())
    sizes_U, times_U = np.unique(np.abs(moved_G).round(15), return_counts=True)  # k alike: a binomial sum
    generator = np.random.default_rng(seed)
    drawn_R = np.zeros(swaps)
    for size, times in zip(sizes_U, times_U, strict=True):
        drawn_R += size * (2.0 * generator.binomial(times, 0.5, size=swaps) - times)
    above, below = (drawn_R >= observed - slack).sum(), (drawn_R <= observed + slack).sum()
    return (int(above) + 1) / (swaps + 1), (int(below) + 1) / (swaps + 1)


def _extend(
    cases_GC: Floats, right_GC: Floats, stratum_G: NDArray[np.int64], added: Added
) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """The groups as units of weight one, and the further units, as large as the stratum's mean group."""
    cases, right, strata = [cases_GC], [right_GC], [stratum_G]
    weights = [np.ones(len(cases_GC))]
    for stratum in np.unique(stratum_G):
        mean_C = cases_GC[stratum_G == stratum].mean(axis=0)
        for weight, share in added:
            cases.append(mean_C[None])
            right.append(share * mean_C[None])
            weights.append(np.array([weight]))
            strata.append(np.array([stratum]))
    return _alike(
        np.concatenate(cases), np.concatenate(right), np.concatenate(weights), np.concatenate(strata)
    )


def _alike(
    cases_UC: Floats, right_UC: Floats, weight_U: Floats, stratum_U: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """Units that count alike as one of their joint weight: the same distribution, drawn much faster."""
    rows_U = np.concatenate([stratum_U[:, None], cases_UC, right_UC], axis=1)
    kept_U, place_U = np.unique(rows_U, axis=0, return_inverse=True)
    classes = cases_UC.shape[1]
    weights = np.asarray(np.bincount(place_U.ravel(), weights=weight_U), dtype=np.float64)
    strata = np.asarray(kept_U[:, 0], dtype=np.int64)
    return kept_U[:, 1 : classes + 1], kept_U[:, classes + 1 :], weights, strata


def _draws(
    weight_U: Floats, stratum_U: NDArray[np.int64], draws: int, generator: np.random.Generator
) -> Iterator[Floats]:
    """How often each unit is drawn, CHUNK samples at a time."""
    for _ in range(0, draws, CHUNK):
        times_RU = np.zeros((CHUNK, len(weight_U)))
        for stratum in np.unique(stratum_U):
            members = np.flatnonzero(stratum_U == stratum)
            total = weight_U[members].sum()
            times_RU[:, members] = generator.multinomial(round(total), weight_U[members] / total, size=CHUNK)
        yield times_RU
