"""Evaluation and benefit."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from fl_jobs.benefit import compare_arms, judge, propose
from fl_jobs.evaluation import absent_labels, measure

LABELS = ("benign", "malignant")


def test_metrics_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    for classes in (2, 4):
        p = generator.dirichlet(np.ones(classes), 200).round(2) + 1e-3
        p /= p.sum(axis=1, keepdims=True)
        y = generator.integers(0, classes, 200)
        found = measure(p, y)
        scores = p[:, 1] if classes == 2 else p
        assert found["auroc"] == pytest.approx(roc_auc_score(y, scores, multi_class="ovr"))
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, p.argmax(axis=1)))
        assert found["log_loss"] == pytest.approx(log_loss(y, np.clip(p, 1e-7, 1)), rel=1e-4)


def test_metrics_cover_the_classes_present_and_name_the_absent_ones():
    y = np.zeros(5, dtype=np.int64)
    found = measure(np.tile([0.9, 0.1], (5, 1)), y)
    assert found["auroc"] is None
    assert found["balanced_accuracy"] == 1.0
    assert absent_labels(y, LABELS) == ["malignant"]


def arms(size, *, local, other, groups=None, seed=0):
    generator = np.random.default_rng(seed)
    y = np.arange(size) % 2
    wrong = generator.random((2, size)) > np.array([[local], [other]])
    groups = groups if groups is not None else np.arange(size).astype(str)
    return compare_arms(y, y ^ wrong[1], y ^ wrong[0], groups, LABELS, seed=1)


def test_a_clear_gain_helps_and_a_clear_loss_harms():
    better = arms(400, local=0.7, other=0.9)
    assert better.verdict == "helps"
    assert better.low < better.value < better.high
    assert arms(400, local=0.9, other=0.7).verdict == "harms"


def test_equal_arms_prove_nothing():
    assert arms(200, local=0.8, other=0.8).verdict == "no proven difference"


def test_too_few_patients_cannot_be_tested():
    assert arms(40, local=0.1, other=1.0).verdict == "cannot be tested here"
    assert judge(0.1, 0.2, {"benign": 29, "malignant": 500}) == "cannot be tested here"


def test_many_cases_of_few_patients_do_not_count_as_many():
    patients = (np.arange(400) % 2 + 2 * (np.arange(400) // 100)).astype(str)
    few = arms(400, local=0.7, other=0.9, groups=patients)
    assert few.groups == {"benign": 4, "malignant": 4}
    assert few.verdict == "cannot be tested here"


def test_the_interval_is_wider_by_patient_than_by_case():
    y = np.arange(400) % 2
    hard = np.arange(400) // 2 % 5 == 0  # whole patients are hard for local-only
    local = np.where(hard, 1 - y, y)
    by_case = compare_arms(y, y, local, np.arange(400).astype(str), LABELS, seed=0)
    patients = (np.arange(400) % 10 + 10 * (np.arange(400) // 50)).astype(str)
    by_patient = compare_arms(y, y, local, patients, LABELS, seed=0)
    assert by_patient.value == by_case.value
    assert by_patient.high - by_patient.low > by_case.high - by_case.low


def test_the_same_seed_gives_the_same_interval():
    assert arms(100, local=0.6, other=0.8) == arms(100, local=0.6, other=0.8)


def test_local_only_stays_unless_an_arm_helps():
    helps, nothing = arms(400, local=0.7, other=0.9), arms(200, local=0.8, other=0.8)
    losses = {"global": 0.4, "tuned": 0.3, "personal": 0.5}
    assert propose({"global": nothing, "personal": nothing}, losses) == "local"
    assert propose({"global": helps, "tuned": nothing, "personal": helps}, losses) == "global"
