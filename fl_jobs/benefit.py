"""Does one arm help a site against local-only? Fixed before any test label is read; torch-free.

Endpoint: difference in balanced accuracy over the classes present, on the site's test part. Interval: 95 %,
percentile, paired bootstrap over groups (a patient's cases stay together; both arms see the same draw), drawn
within the strata of the groups' most frequent label. Suffixes: N = case, G = group, C = class, R = draw.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

METRIC = "balanced_accuracy"
DRAWS = 2000
CHUNK = 100
MINIMUM_GROUPS = 30
Verdict = Literal["helps", "harms", "no proven difference", "cannot be tested here"]


@dataclass(frozen=True)
class Difference:
    """An arm minus local-only, with its interval and the number of test groups by label."""

    metric: str
    value: float
    low: float
    high: float
    groups: dict[str, int]
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_arms(
    y_N: NDArray[np.int64],
    predicted_N: NDArray[np.int64],
    local_N: NDArray[np.int64],
    groups_N: NDArray[np.str_],
    labels: Sequence[str],
    *,
    seed: int,
) -> Difference:
    """Compare an arm's predicted labels with local-only's on the same cases; repeatable by ``seed``."""
    classes = len(labels)
    _, group_N = np.unique(groups_N, return_inverse=True)
    size = int(group_N.max()) + 1
    cases_GC, gain_GC = np.zeros((size, classes)), np.zeros((size, classes))
    np.add.at(cases_GC, (group_N, y_N), 1.0)
    np.add.at(gain_GC, (group_N, y_N), (predicted_N == y_N).astype(float) - (local_N == y_N))
    stratum_G = cases_GC.argmax(axis=1)
    draws_R = np.concatenate(list(_draws(cases_GC, gain_GC, stratum_G, seed)))
    low, high = (float(edge) for edge in np.quantile(draws_R, (0.025, 0.975)))
    counts = {label: int((stratum_G == place).sum()) for place, label in enumerate(labels)}
    return Difference(
        metric=METRIC,
        value=float(_balanced(cases_GC.sum(axis=0), gain_GC.sum(axis=0))),
        low=low,
        high=high,
        groups=counts,
        verdict=judge(low, high, counts),
    )


def judge(low: float, high: float, groups: dict[str, int]) -> Verdict:
    """The verdict on an interval. Below MINIMUM_GROUPS groups of any label nothing is claimed."""
    if min(groups.values()) < MINIMUM_GROUPS:
        return "cannot be tested here"
    if low > 0:
        return "helps"
    return "harms" if high < 0 else "no proven difference"


def propose(differences: dict[str, Difference], validation_loss: dict[str, float]) -> str:
    """The arm to promote: of those that help, the one best on validation; else local-only stays."""
    helping = [arm for arm, difference in differences.items() if difference.verdict == "helps"]
    return min(helping, key=lambda arm: (validation_loss[arm], arm), default="local")


def _draws(
    cases_GC: NDArray[np.float64], gain_GC: NDArray[np.float64], stratum_G: NDArray[np.int64], seed: int
) -> list[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    pieces: list[NDArray[np.float64]] = []
    for _ in range(0, DRAWS, CHUNK):
        times_RG = np.zeros((CHUNK, len(stratum_G)))
        for stratum in np.unique(stratum_G):
            members = np.flatnonzero(stratum_G == stratum)
            even = np.full(len(members), 1 / len(members))
            times_RG[:, members] = generator.multinomial(len(members), even, size=CHUNK)
        pieces.append(_balanced(times_RG @ cases_GC, times_RG @ gain_GC))
    return pieces


def _balanced(cases: NDArray[np.float64], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the classes present of gained answers per case; the last axis is the class."""
    present = cases > 0
    rates = np.divide(gain, cases, out=np.zeros_like(gain), where=present)
    return np.asarray(rates.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1), dtype=np.float64)
