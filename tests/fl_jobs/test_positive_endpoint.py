"""Several labels judged as two: the positive ones and all others."""

import numpy as np
import pytest
from pydantic import ValidationError

from fl_jobs.benefit.evidence import EVIDENCE, judge_seeds, read_evidence
from fl_jobs.evaluation import Cutoff, measure
from fl_jobs.packaging.spec import POSITIVE, RunSpec, TaskSpec, run_folder_name
from fl_jobs.simulate import run_in_process
from tests.fl_jobs.sites import FEATURES, LABELS, make_spec, tabular_homes

TASK = TaskSpec(kind="tabular", labels=(*LABELS, "rare"), features=FEATURES)


def spec_with(**analysis) -> RunSpec:
    spec = make_spec("fedper", TASK)
    return RunSpec.model_validate({**spec.model_dump(), "analysis": analysis})


@pytest.mark.parametrize("positive", [(), (*LABELS, "rare")])
def test_some_labels_must_be_positive_and_not_all(positive):
    with pytest.raises(ValidationError, match="some of the labels"):
        spec_with(endpoint=POSITIVE, positive=positive)


def test_labels_fall_into_two_classes_or_stay_what_they_are():
    judged = spec_with(endpoint=POSITIVE, positive=("malignant", "rare"))
    assert judged.judged_classes() == ("all other labels", "positive labels")
    assert judged.class_of_label() == (0, 1, 1)
    plain = spec_with(positive=("malignant",))
    assert plain.judged_classes() == TASK.labels
    assert plain.class_of_label() == (0, 1, 2)


def test_the_figure_is_the_mean_of_sensitivity_and_specificity_of_the_answers():
    truth = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    answers = np.array(
        [0, 0, 0, 2, 2, 0, 2, 1]
    )  # of four positive cases three are called so; three of four others
    found = measure(np.eye(3)[answers] * 0.98 + 0.005, truth, Cutoff((1, 2), 0.5))
    assert found[POSITIVE] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 0 + 1 / 2) / 3)


def test_a_label_nobody_has_keeps_no_site_from_being_judged(tmp_path):
    homes = tabular_homes(tmp_path, ("a", "b", "c"), count=300)
    by_label = spec_with(minimum_groups=20)
    as_two = spec_with(minimum_groups=20, endpoint=POSITIVE, positive=("malignant",))
    verdicts = {}
    for spec in (by_label, as_two):
        finish = run_in_process(spec, homes, run_id=spec.analysis.endpoint)[-1]
        for report in finish["sites"].values():
            found = report["differences"]["personal"]
            verdicts.setdefault(spec.analysis.endpoint, set()).add(found["verdict"])
            assert found["metric"] == spec.analysis.endpoint
            assert found["metric"] in report["cells"]["personal"]
        folder = homes["a"] / "personal" / "study" / "fedper"
        evidence = read_evidence(folder / run_folder_name(spec.digest(), spec.analysis.endpoint) / EVIDENCE)
        assert evidence.answers.cases_GC.shape[1] == len(spec.judged_classes())
        joined = judge_seeds([evidence])["a"]["personal"].as_json()
        shared = finish["sites"]["a"]["differences"]["personal"]
        assert joined == {name: shared[name] for name in joined}
    assert verdicts["balanced_accuracy"] == {"cannot be tested here"}
    assert "cannot be tested here" not in verdicts[POSITIVE]
