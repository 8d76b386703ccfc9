"""Metrics on one part."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from fl_jobs.calibration import bin_number, expected_calibration_error, sensitivity_at, threshold_for
from fl_jobs.evaluation import absent_labels, cutoff_for, measure

LABELS = ("benign", "malignant")


def drawn(classes, size=200, seed=0):
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.ones(classes), size).round(2) + 1e-3
    return p / p.sum(axis=1, keepdims=True), generator.integers(0, classes, size)


@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_agree_with_scikit_learn(classes):
    p, y = drawn(classes)
    found, predicted = measure(p, y), p.argmax(axis=1)
    scores = p[:, 1] if classes == 2 else p
    assert found["auroc"] == pytest.approx(roc_auc_score(y, scores, multi_class="ovr"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert found["log_loss"] == pytest.approx(log_loss(y, np.clip(p, 1e-7, 1)), rel=1e-4)


def test_metrics_cover_the_classes_present_and_name_the_absent_ones():
    y = np.zeros(5, dtype=np.int64)
    found = measure(np.tile([0.9, 0.1], (5, 1)), y)
    assert found["auroc"] is None
    assert found["balanced_accuracy"] == found["macro_f1"] == 1.0
    assert absent_labels(y, LABELS) == ["malignant"]


def test_calibration_error_by_hand():
    confidence = np.repeat([0.6, 0.9], 10)
    right = np.array([True] * 4 + [False] * 6 + [True] * 9 + [False])
    assert bin_number(20) == 2
    assert expected_calibration_error(confidence, right) == pytest.approx((0.2 + 0.0) / 2)


def test_calibration_error_is_small_for_honest_probabilities_and_not_for_bold_ones():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1.0, 20_000)
    right = generator.random(20_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.012
    bold = np.sqrt(confidence)
    gap = float((bold - confidence).mean())
    assert expected_calibration_error(bold, right) == pytest.approx(gap, abs=0.01)


def test_calibration_error_does_not_depend_on_the_order_of_rows():
    generator = np.random.default_rng(1)
    confidence, right = generator.integers(5, 10, 300) / 10, generator.random(300) < 0.7
    order = generator.permutation(300)
    assert expected_calibration_error(confidence, right) == pytest.approx(
        expected_calibration_error(confidence[order], right[order])
    )


@pytest.mark.parametrize(("cases", "bins"), [(3, 1), (29, 2), (149, 14), (150, 15), (9000, 15)])
def test_few_cases_get_few_bins_and_the_figure_says_how_many(cases, bins):
    p, y = drawn(2, cases)
    assert measure(p, y)["ece_bins"] == bins


@pytest.mark.parametrize("specificity", [0.5, 0.9, 0.95, 1 - 1e-6])
def test_the_threshold_keeps_the_wanted_specificity_and_no_lower_one_would(specificity):
    generator = np.random.default_rng(2)
    scores, sick = generator.random(211).round(2), generator.random(211) < 0.4
    threshold = threshold_for(scores, sick, specificity)
    assert (scores[~sick] <= threshold).mean() >= specificity
    lower = np.max(scores[scores < threshold])
    assert (scores[~sick] <= lower).mean() < specificity


def test_sensitivity_is_read_at_the_threshold_of_validation_not_of_test():
    validation = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    cutoff = cutoff_for(validation, np.array([0, 0, 1]), positive=(1,), specificity=0.9)
    assert cutoff is not None
    assert cutoff.threshold == pytest.approx(0.3)
    test = np.array([[0.6, 0.4], [0.8, 0.2], [0.5, 0.5], [0.75, 0.25]])
    found = measure(test, np.array([0, 0, 1, 1]), cutoff)
    assert (found["sensitivity"], found["specificity"]) == (0.5, 0.5)
    assert found["threshold"] == pytest.approx(0.3)


def test_several_labels_may_count_as_disease_together():
    p = np.array([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.1, 0.2, 0.7]])
    cutoff = cutoff_for(p, np.array([0, 0, 2]), positive=(1, 2), specificity=0.9)
    assert cutoff is not None
    assert cutoff.threshold == pytest.approx(0.6)
    assert measure(p, np.array([0, 1, 2]), cutoff)["sensitivity"] == 0.5


def test_where_nobody_is_healthy_or_ill_there_is_no_figure():
    assert threshold_for(np.array([0.5]), np.array([True]), 0.9) is None
    assert sensitivity_at(None, np.array([0.5]), np.array([True])) == (None, None)
    assert sensitivity_at(0.2, np.array([0.5]), np.array([True])) == (1.0, None)
    assert "sensitivity" not in measure(*drawn(4))
