"""Whether probabilities mean what they say, and a threshold that keeps a wanted specificity; torch-free.

Suffixes: N = case, B = bin.
"""

import math

import numpy as np
from numpy.typing import NDArray

BINS = 15
CASES_PER_BIN = 10  # with fewer, a bin's accuracy is mostly chance and the error would be


def bin_number(cases: int) -> int:
    """BINS bins, fewer where a bin would hold under CASES_PER_BIN cases, at least one."""
    return max(1, min(BINS, cases // CASES_PER_BIN))


def expected_calibration_error(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> float:
    """Mean over bins of equal mass of |accuracy − confidence|, weighted by the bins' cases.

    ``confidence_N`` is the probability of the predicted label. Bins of equal mass as in Nguyen & O'Connor
    (EMNLP 2015), in place of Guo et al.'s (ICML 2017) of equal width, which leave most bins empty for a good
    model. Cases of equal confidence share their accuracy, so that the order of rows changes nothing.
    """
    _, tie_N, counts = np.unique(confidence_N, return_inverse=True, return_counts=True)
    accuracy_N = (np.bincount(tie_N, weights=right_N.astype(float)) / counts)[tie_N]
    order = np.argsort(confidence_N, kind="stable")
    gaps = [
        abs(float((accuracy_N[part] - confidence_N[part]).sum()))
        for part in np.array_split(order, bin_number(len(order)))
    ]
    return sum(gaps) / len(order)


def threshold_for(
    scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_], specificity: float
) -> float | None:
    """The lowest score above which a case is called positive with at least ``specificity`` on these cases.

    None without a negative case. Give it validation cases: a threshold chosen on test cases flatters itself.
    """
    negatives = np.sort(scores_N[~positive_N])
    if not len(negatives):
        return None
    place = math.ceil(specificity * len(negatives) - 1e-9) - 1
    return float(negatives[max(place, 0)])


def sensitivity_at(
    threshold: float | None, scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """Sensitivity and specificity of "score above ``threshold``"; None where there is no case to ask."""
    if threshold is None:
        return None, None
    called_N = scores_N > threshold
    sensitivity = float(called_N[positive_N].mean()) if positive_N.any() else None
    return sensitivity, float((~called_N[~positive_N]).mean()) if not positive_N.all() else None
