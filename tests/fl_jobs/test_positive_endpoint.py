"""Several labels judged as two: the positive ones and all others."""

import numpy as np
import pytest
from pydantic import ValidationError

from fl_jobs.benefit import answers_of, compare_arms
from fl_jobs.benefit.evidence import EVIDENCE, judge_seeds, read_evidence
from fl_jobs.evaluation import Cutoff, measure
from fl_jobs.packaging.spec import POSITIVE, ModelSpec, RunSpec, StudySpec, TaskSpec, run_folder_name
from fl_jobs.simulate import run_in_process
from tests.fl_jobs.sites import FEATURES, LABELS, make_spec, tabular_homes

TASK = TaskSpec(kind="tabular", labels=(*LABELS, "rare"), features=FEATURES)


def spec_with(**analysis) -> RunSpec:
    spec = make_spec("fedper", TASK)
    return RunSpec.model_validate({**spec.model_dump(), "analysis": analysis})


@pytest.mark.parametrize(
    ("positive", "sentence"),
    [
        ((), "some of the labels"),
        ((*LABELS, "rare"), "some of the labels"),
        (("rare", "rare"), "each positive label is named once"),
        (("of another study",), "is not one of the study's labels"),
    ],
)
def test_some_labels_must_be_positive_and_not_all(positive, sentence):
    with pytest.raises(ValidationError, match=sentence):
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
    # of four positive cases three are called so; three of four others
    answers = np.array([0, 0, 0, 2, 2, 0, 2, 1])
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


def judged(spec, truth, arms):
    """The difference of the personal arm, judged as a site does."""
    class_of = np.array(spec.class_of_label())
    names = np.arange(len(truth)).astype(str)
    called = {arm: class_of[answers] for arm, answers in arms.items()}
    counted = answers_of(class_of[truth], called, names, len(spec.judged_classes()))
    return compare_arms(counted, "personal", spec.judged_classes(), spec.analysis, seed=0)


def test_a_difference_by_hand():
    spec = spec_with(endpoint=POSITIVE, positive=("malignant", "rare"))
    truth = np.repeat([0, 1, 2], [60, 20, 20])
    local = np.zeros(100, dtype=np.int64)  # specificity 1, sensitivity 0
    personal = np.repeat([0, 2, 1, 0], [54, 26, 10, 10])  # 54 of 60, and 20 + 10 of 40, each as the other
    found = judged(spec, truth, {"local": local, "personal": personal})
    assert found.metric == POSITIVE
    assert found.value == pytest.approx((54 / 60 + 30 / 40) / 2 - 1 / 2)
    assert found.groups == {"all other labels": 60, "positive labels": 40}
    assert found.verdict == "helps"


@pytest.mark.parametrize(("counts", "tested"), [((500, 30), True), ((500, 29), False), ((29, 500), False)])
def test_thirty_groups_are_asked_of_both_sides_and_of_no_label(counts, tested):
    spec = spec_with(endpoint=POSITIVE, positive=("malignant", "rare"))
    others, positive = counts
    truth = np.repeat([0, 1, 2], [others, positive - 1, 1])  # one rare case
    wrong = np.where(truth == 0, 1, 0)
    found = judged(spec, truth, {"local": wrong, "personal": truth})
    assert found.verdict == ("helps" if tested else "cannot be tested here")
    by_label = spec_with(positive=("malignant", "rare"))
    found = judged(by_label, truth, {"local": wrong, "personal": truth})
    assert found.verdict == "cannot be tested here"


def test_two_labels_are_their_own_two_classes(tmp_path):
    spec = make_spec("fedper")
    spec = RunSpec.model_validate(
        {**spec.model_dump(), "analysis": {"endpoint": POSITIVE, "positive": ("malignant",)}}
    )
    finish = run_in_process(spec, tabular_homes(tmp_path, ("a", "b")), run_id="two")[-1]
    for cell in finish["sites"]["a"]["cells"].values():
        assert cell[POSITIVE] == pytest.approx(cell["balanced_accuracy"])


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        (1, "df94444cbcb09aa386c54adeb6573e115e581efa38a962818f7ee323c8cd7822"),
        (2, "ae9edf81564b652d59c95de418fa525c3899554acdf38288639dc37aac065184"),
    ],
)
def test_a_specification_without_it_keeps_the_digest_it_had_before(version, digest):
    spec = RunSpec(
        version=version,
        study=StudySpec(
            slug="golden",
            purpose="test",
            dataset="cases",
            task=TaskSpec(kind="tabular", labels=(*LABELS, "rare"), features=("age", "size")),
        ),
        algorithm="dbe",
        hyper_parameters={"local_epochs": 1},
        model=ModelSpec(name="tabular_mlp"),
        rounds=3,
        seed=7,
        min_sites=3,
    )
    assert spec.digest() == digest
