"""How good a model is on one part of a site's cases. Metrics cover the classes that are present.

Shape suffixes: N = case, C = class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_jobs.algorithms.base import PersonalAlgorithm
from fl_jobs.calibration import bin_number, expected_calibration_error, sensitivity_at, threshold_for
from fl_jobs.device import device_of
from fl_jobs.packaging.spec import POSITIVE, Endpoint

BATCH = 256
SMALLEST = 1e-7  # a probability below counts as this in the log loss


def predict_probabilities(algorithm: PersonalAlgorithm, x: Tensor) -> NDArray[np.float64]:
    """Probabilities (N × C) of each label, in float32; the same input gives the same numbers."""
    algorithm.eval()
    place = device_of(algorithm)
    with torch.inference_mode():
        parts = [
            torch.softmax(algorithm(piece.to(place)).double(), dim=1).cpu() for piece in torch.split(x, BATCH)
        ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)


def validation_sums(probabilities_NC: NDArray[np.float64], y_N: NDArray[np.int64]) -> dict[str, float]:
    """Sums over cases, additive over sites: log loss, correct answers, cases × balanced accuracy, cases."""
    right = probabilities_NC.argmax(axis=1) == y_N
    return {
        "val_loss": float(_losses(probabilities_NC, y_N).sum()),
        "val_correct": float(right.sum()),
        "val_balanced": _balanced(right, y_N) * len(y_N),
        "val_n": float(len(y_N)),
    }


def tested_sums(probabilities_NC: NDArray[np.float64], y_N: NDArray[np.int64]) -> dict[str, float]:
    """The same over the test part: correct answers, cases × balanced accuracy, cases."""
    names = {"val_correct": "test_correct", "val_balanced": "test_balanced", "val_n": "test_n"}
    sums = validation_sums(probabilities_NC, y_N)
    return {name: sums[key] for key, name in names.items()}


@dataclass(frozen=True)
class Cutoff:
    """A score above ``threshold`` is called positive; the score is the sum over the labels at ``positive``.

    Chosen on validation (``cutoff_for``), never on the cases it is then judged by.
    """

    positive: tuple[int, ...]
    threshold: float | None


def cutoff_for(
    probabilities_NC: NDArray[np.float64],
    y_N: NDArray[np.int64],
    *,
    positive: tuple[int, ...],
    specificity: float,
) -> Cutoff | None:
    """The cutoff with at least ``specificity`` on these (validation) cases; None without positive labels."""
    if not positive:
        return None
    scores_N, sick_N = _scores(probabilities_NC, y_N, positive)
    return Cutoff(positive, threshold_for(scores_N, sick_N, specificity))


def measure(
    probabilities_NC: NDArray[np.float64],
    y_N: NDArray[np.int64],
    cutoff: Cutoff | None = None,
    *,
    endpoint: Endpoint = "balanced_accuracy",
) -> dict[str, float | None]:
    """Accuracy, balanced accuracy, AUROC, macro-F1, log loss, calibration error with its number of bins.

    AUROC is that of the second label with two labels, else the mean of one-against-rest over the classes
    present; None when only one class is present. With ``cutoff`` also the sensitivity and specificity
    reached here, and the threshold; of several labels also how well the answers tell the positive ones apart,
    and of two where that is the ``endpoint``.
    """
    predicted_N = probabilities_NC.argmax(axis=1)
    right = predicted_N == y_N
    present = np.unique(y_N)
    scored = [1] if probabilities_NC.shape[1] == 2 else list(present)
    areas = [_auroc(probabilities_NC[:, c], y_N == c) for c in scored] if len(present) > 1 else []
    found: dict[str, float | None] = {
        "accuracy": float(right.mean()),
        "balanced_accuracy": _balanced(right, y_N),
        "auroc": float(np.mean(areas)) if areas else None,
        "macro_f1": _macro_f1(predicted_N, y_N),
        "log_loss": float(_losses(probabilities_NC, y_N).mean()),
        "ece": expected_calibration_error(probabilities_NC.max(axis=1), right),
        "ece_bins": float(bin_number(len(y_N))),
    }
    if cutoff is not None:
        sensitivity, specificity = sensitivity_at(
            cutoff.threshold, *_scores(probabilities_NC, y_N, cutoff.positive)
        )
        found |= {"sensitivity": sensitivity, "specificity": specificity, "threshold": cutoff.threshold}
        if probabilities_NC.shape[1] > 2 or endpoint == POSITIVE:
            called_N, sick_N = np.isin(predicted_N, cutoff.positive), np.isin(y_N, cutoff.positive)
            found[POSITIVE] = _balanced(called_N == sick_N, sick_N)
    return found


def absent_labels(y_N: NDArray[np.int64], labels: Sequence[str]) -> list[str]:
    """Labels of the study without a case in ``y_N``."""
    present = set(y_N.tolist())
    return [label for place, label in enumerate(labels) if place not in present]


def _balanced(right_N: NDArray[np.bool_], y_N: NDArray[Any]) -> float:
    """Mean over the classes present of the share of right answers."""
    return float(np.mean([right_N[y_N == c].mean() for c in np.unique(y_N)]))


def _macro_f1(predicted_N: NDArray[np.int64], y_N: NDArray[np.int64]) -> float:
    """Mean over the classes present of 2 × right ÷ (predicted + true)."""
    shares = [
        2 * ((predicted_N == c) & (y_N == c)).sum() / ((predicted_N == c).sum() + (y_N == c).sum())
        for c in np.unique(y_N)
    ]
    return float(np.mean(shares))


def _scores(
    probabilities_NC: NDArray[np.float64], y_N: NDArray[np.int64], positive: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return probabilities_NC[:, list(positive)].sum(axis=1), np.isin(y_N, positive)


def _losses(probabilities_NC: NDArray[np.float64], y_N: NDArray[np.int64]) -> NDArray[Any]:
    return -np.log(np.clip(probabilities_NC[np.arange(len(y_N)), y_N], SMALLEST, 1.0))


def _auroc(scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_]) -> float:
    """The share of (positive, negative) pairs in the right order; ties count half (mean ranks)."""
    _, inverse, counts = np.unique(scores_N, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks_N = (ends - (counts - 1) / 2)[inverse]
    positives = int(positive_N.sum())
    negatives = len(positive_N) - positives
    above = ranks_N[positive_N].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))
