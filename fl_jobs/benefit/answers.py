"""Right answers of each arm by group: all that the analysis needs of a part, and what seeds are averaged in.

A group is a patient or an image: its cases stay together in every draw. Suffixes: N = case, G = group,
C = class (by true label), S = stratum's group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import Endpoint

LOCAL = "local"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """``cases_GC``: a group's cases by true label; ``right_GC``: how many of them each arm answered right."""

    groups_G: NDArray[np.str_]
    cases_GC: Floats
    right_GC: dict[str, Floats]

    @property
    def stratum_G(self) -> NDArray[np.int64]:  # noqa: N802 - the suffix is the shape
        """Each group's most frequent label (the first of the list when two are equally frequent)."""
        return np.asarray(self.cases_GC.argmax(axis=1), dtype=np.int64)

    def gain_GC(self, arm: str) -> Floats:  # noqa: N802 - the suffix is the shape
        """Right answers of ``arm`` minus those of local-only."""
        return self.right_GC[arm] - self.right_GC[LOCAL]

    def counts(self, labels: Sequence[str]) -> dict[str, int]:
        """Groups by most frequent label."""
        return {label: int((self.stratum_G == place).sum()) for place, label in enumerate(labels)}


def answers_of(
    y_N: NDArray[np.int64],
    predicted_N: Mapping[str, NDArray[np.int64]],
    groups_N: NDArray[np.str_],
    classes: int,
) -> Answers:
    """Count each arm's right answers by group; the same cases for all arms."""
    names_G, group_N = np.unique(groups_N, return_inverse=True)
    shape = (len(names_G), classes)
    cases_GC = np.zeros(shape)
    np.add.at(cases_GC, (group_N, y_N), 1.0)
    right_GC = {arm: np.zeros(shape) for arm in predicted_N}
    for arm, labels_N in predicted_N.items():
        np.add.at(right_GC[arm], (group_N, y_N), (labels_N == y_N).astype(float))
    return Answers(np.asarray(names_G, dtype=np.str_), cases_GC, right_GC)


def average_seeds(runs: Sequence[Answers]) -> Answers:
    """Runs that differ in their seed, averaged within each group: a seed adds no patient.

    Raises DataError when the runs were not tested on the same groups and cases.
    """
    first = runs[0]
    for other in runs[1:]:
        same = (
            np.array_equal(first.groups_G, other.groups_G) and other.right_GC.keys() == first.right_GC.keys()
        )
        if not same or not np.array_equal(first.cases_GC, other.cases_GC):
            raise DataError(
                "The runs were not tested on the same cases with the same arms. Combine runs of one data set "
                "that differ in their seed only."
            )
    right_GC = {arm: np.mean([run.right_GC[arm] for run in runs], axis=0) for arm in first.right_GC}
    return Answers(first.groups_G, first.cases_GC, right_GC)


def join_folds(folds: Sequence[Answers]) -> Answers:
    """The held-out groups of all folds as one part. Raises DataError when a group was held out twice."""
    groups_G = np.concatenate([fold.groups_G for fold in folds])
    if len(np.unique(groups_G)) != len(groups_G):
        raise DataError("A group was held out in two folds. Give each group to exactly one fold.")
    arms = set.intersection(*(set(fold.right_GC) for fold in folds))
    right_GC = {arm: np.concatenate([fold.right_GC[arm] for fold in folds]) for arm in sorted(arms)}
    return Answers(groups_G, np.concatenate([fold.cases_GC for fold in folds]), right_GC)


def rate(cases_C: Floats, right_C: Floats, endpoint: Endpoint) -> Floats:
    """Accuracy, or the mean over the classes present of the share of right answers; classes on the last axis.

    Given gains in place of right answers it is the difference of two arms in the same endpoint.
    """
    if endpoint == "accuracy":
        return np.asarray(right_C.sum(axis=-1) / np.maximum(cases_C.sum(axis=-1), 1e-12))
    present = cases_C > 0
    rates = np.divide(right_C, cases_C, out=np.zeros_like(right_C), where=present)
    return np.asarray(rates.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def influence(
    cases_GC: Floats, right_GC: Floats, weight_G: Floats, endpoint: Endpoint
) -> tuple[Floats, Floats]:
    """Per group: its share of the endpoint (sums to it), and its linearised deviation (for a standard error).

    The endpoint is a mean of ratios Σ right ÷ Σ cases; the delta method (Efron & Tibshirani 1993, chapter
    21) gives a group the deviation Σ_c (right_c − rate_c × cases_c) ÷ Σ cases_c ÷ number of classes.
    """
    if endpoint == "accuracy":
        cases_GC, right_GC = (part.sum(axis=1, keepdims=True) for part in (cases_GC, right_GC))
    total_C = weight_G @ cases_GC
    present = total_C > 0
    divisor_C = np.where(present, total_C, 1.0) * max(int(present.sum()), 1)
    rate_C = np.where(present, (weight_G @ right_GC) / np.where(present, total_C, 1.0), 0.0)
    shares_G = (right_GC / divisor_C).sum(axis=1)
    deviations_G = ((right_GC - rate_C * cases_GC) / divisor_C).sum(axis=1)
    return shares_G, deviations_G
