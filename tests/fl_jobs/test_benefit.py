"""The verdict on one site, on all sites, and on several seeds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fl_jobs.benefit import Difference, answers_of, compare_arms, holm, judge_federation, propose
from fl_jobs.benefit.__main__ import main
from fl_jobs.benefit.answers import average_seeds, join_folds
from fl_jobs.benefit.difference import endpoint_interval, judge
from fl_jobs.benefit.evidence import Evidence, judge_seeds, read_evidence
from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import AnalysisSpec
from tests.fl_jobs.sites import make_spec

LABELS = ("benign", "malignant")
ANALYSIS = AnalysisSpec()


def answers(size, *, local, other, groups=None, seed=0):
    generator = np.random.default_rng(seed)
    y = np.arange(size) % 2
    wrong = generator.random((2, size)) > np.array([[local], [other]])
    groups = groups if groups is not None else np.arange(size).astype(str)
    return answers_of(y, {"local": y ^ wrong[0], "personal": y ^ wrong[1]}, groups, 2)


def arms(size, *, analysis=ANALYSIS, **shares):
    return compare_arms(answers(size, **shares), "personal", LABELS, analysis, seed=1)


def test_a_clear_gain_helps_and_a_clear_loss_harms():
    better, worse = arms(400, local=0.7, other=0.9), arms(400, local=0.9, other=0.7)
    assert (better.verdict, worse.verdict) == ("helps", "harms")
    assert better.low < better.lower < better.value < better.high
    assert better.p_gain < 0.001 < 0.99 < better.p_harm
    assert (better.excludes_harm, worse.excludes_harm) == (True, False)


def test_equal_arms_prove_nothing():
    assert arms(200, local=0.8, other=0.8).verdict == "no proven difference"


def test_forty_patients_without_a_difference_do_not_prove_that_there_is_none():
    """The plain bootstrap would give the interval 0 … 0 and call it harmless."""
    same = arms(80, local=1.0, other=1.0)
    assert same.value == 0.0
    assert same.low < -0.02 < 0.02 < same.high
    assert same.excludes_harm is False
    assert arms(2000, local=1.0, other=1.0).excludes_harm is True


def test_too_few_patients_cannot_be_tested_and_are_never_called_harmless():
    few = arms(40, local=0.1, other=1.0)
    assert few.verdict == "cannot be tested here"
    assert few.excludes_harm is None
    clear = arms(400, local=0.7, other=0.9)
    assert judge(replace(clear, groups={"benign": 29, "malignant": 500}), ANALYSIS) == few.verdict
    assert judge(replace(clear, groups={"benign": 30, "malignant": 30}), ANALYSIS) == "helps"


def test_many_cases_of_few_patients_do_not_count_as_many():
    patients = (np.arange(400) % 2 + 2 * (np.arange(400) // 100)).astype(str)
    few = arms(400, local=0.7, other=0.9, groups=patients)
    assert few.groups == {"benign": 4, "malignant": 4}
    assert few.verdict == "cannot be tested here"


def test_the_interval_is_wider_by_patient_than_by_case():
    y = np.arange(400) % 2
    hard = np.arange(400) // 2 % 5 == 0  # whole patients are hard for local-only
    predicted = {"local": np.where(hard, 1 - y, y), "personal": y}
    patients = (np.arange(400) % 10 + 10 * (np.arange(400) // 50)).astype(str)
    by_case, by_patient = (
        compare_arms(answers_of(y, predicted, groups, 2), "personal", LABELS, ANALYSIS, seed=0)
        for groups in (np.arange(400).astype(str), patients)
    )
    assert by_patient.value == by_case.value
    assert by_patient.high - by_patient.low > by_case.high - by_case.low


def test_the_same_seed_gives_the_same_figures():
    assert arms(100, local=0.6, other=0.8) == arms(100, local=0.6, other=0.8)


def test_accuracy_can_be_the_endpoint():
    y = np.array([0] * 300 + [1] * 100)
    predicted = {"local": np.zeros(400, np.int64), "personal": y}
    counted = answers_of(y, predicted, np.arange(400).astype(str), 2)
    found = compare_arms(counted, "personal", LABELS, AnalysisSpec(endpoint="accuracy"), seed=0)
    assert (found.metric, found.value) == ("accuracy", 0.25)
    assert compare_arms(counted, "personal", LABELS, ANALYSIS, seed=0).value == 0.5


def test_an_arms_own_figure_has_an_interval():
    low, high = endpoint_interval(answers(400, local=0.7, other=0.9), "personal", ANALYSIS, seed=0)
    assert 0.82 < low < 0.9 < high < 0.95
    assert endpoint_interval(answers(60, local=1.0, other=1.0), "personal", ANALYSIS, seed=0)[0] < 0.98


def test_only_the_arm_that_validation_chose_is_tested():
    helps, nothing = arms(400, local=0.7, other=0.9), arms(200, local=0.8, other=0.8)
    assert propose("personal", {"global": helps, "personal": helps}) == "personal"
    assert propose("personal", {"global": helps, "personal": nothing}) == "local"
    assert propose("local", {"global": helps, "personal": helps}) == "local"


def test_figures_of_an_older_version_are_read_and_claim_nothing_new():
    stored = {"metric": "balanced_accuracy", "value": 0.1, "low": 0.05, "high": 0.2, "verdict": "helps"}
    old = Difference.from_json(stored | {"groups": {"benign": 40, "malignant": 40}, "validation": {}})
    assert old.excludes_harm is None
    verdict = judge_federation({"a": old})
    assert (verdict.helped, verdict.untested, verdict.no_site_harmed) == ((), ("a",), "cannot be said")


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {}
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def cell(value, p_gain, **more):
    base = arms(400, local=0.7, other=0.9)
    return replace(
        base, value=value, low=value - 0.03, high=value + 0.03, lower=value - 0.015, p_gain=p_gain, **more
    )


def test_no_site_harmed_needs_every_site():
    good = {"a": cell(0.05, 0.001), "b": cell(0.0, 0.5)}
    assert judge_federation(good).no_site_harmed == "holds"
    assert judge_federation(good | {"c": cell(-0.01, 0.7)}).no_site_harmed == "does not hold"
    silent = judge_federation(good | {"c": None, "d": cell(0.2, 0.0001, verdict="cannot be tested here")})
    assert silent.no_site_harmed == "cannot be said"
    assert (silent.bounded, silent.untested, silent.silent, silent.unknown) == (("a", "b"), ("d",), ("c",), 2)
    assert judge_federation({}).no_site_harmed == "cannot be said"


def test_helps_goes_through_holm_and_worst_and_spread_are_of_sites_that_share():
    found = judge_federation({"a": cell(0.05, 0.005), "b": cell(0.04, 0.02), "c": cell(0.01, 0.3), "d": None})
    assert found.helped == ("a",)  # b: 2 × 0.02 is more than 2.5 %
    assert found.adjusted["b"] == pytest.approx(0.04)
    assert found.worst == "c"
    assert found.spread == pytest.approx(0.04)
    assert judge_federation({"a": cell(0.05, 0.005), "b": cell(0.04, 0.02)}).is_helpful


def test_a_seed_is_no_patient():
    one = answers(200, local=0.75, other=0.82)
    assert average_seeds([one] * 5).counts(LABELS) == one.counts(LABELS)
    five = compare_arms(average_seeds([one] * 5), "personal", LABELS, ANALYSIS, seed=1)
    assert five == compare_arms(one, "personal", LABELS, ANALYSIS, seed=1)


def test_runs_on_other_cases_are_not_averaged_and_folds_do_not_overlap():
    one, other = answers(200, local=0.7, other=0.8), answers(198, local=0.7, other=0.8)
    with pytest.raises(DataError, match="same cases"):
        average_seeds([one, other])
    with pytest.raises(DataError, match="two folds"):
        join_folds([one, one])
    names = np.array([f"x{n}" for n in range(200)])
    assert len(join_folds([one, replace(one, groups_G=names)]).groups_G) == 400


def evidence(site, seed, *, other=0.9):
    return Evidence(site, make_spec("dbe", seed=seed), answers(300, local=0.75, other=other, seed=seed))


def test_runs_of_several_seeds_are_judged_as_one(tmp_path, capsys):
    paths = []
    for site in ("a", "b"):
        for seed in (1, 2, 3):
            paths.append(tmp_path / f"{site}{seed}.json")
            paths[-1].write_bytes(evidence(site, seed).encode())
    assert main([*map(str, paths), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sites"]["a"]["personal"]["groups"] == {"benign": 150, "malignant": 150}
    assert found["federation"]["helped"] == ["a", "b"]
    assert main([str(path) for path in paths]) == 0
    assert "a (3 seeds; test groups: 150 benign, 150 malignant)" in capsys.readouterr().out


def test_the_file_names_no_patient_and_reads_back(tmp_path):
    made = evidence("a", 1)
    data = Evidence(
        made.site, made.spec, replace(made.answers, groups_G=np.array([f"Meier{n}" for n in range(300)]))
    )
    path = tmp_path / "test_answers.json"
    path.write_bytes(data.encode())
    assert b"Meier" not in path.read_bytes()
    read = read_evidence(path)
    assert read.spec == made.spec
    assert read.answers.cases_GC.sum() == 300


def test_what_is_no_repeat_is_refused(tmp_path, capsys):
    with pytest.raises(DataError, match="same seed"):
        judge_seeds([evidence("a", 1), evidence("a", 1)])
    other = Evidence("a", make_spec("dbe", seed=2, rounds=9), evidence("a", 2).answers)
    with pytest.raises(DataError, match="more than their seed"):
        judge_seeds([evidence("a", 1), other])
    (tmp_path / "x.json").write_text("{}")
    assert main([str(tmp_path / "x.json")]) == 2
    assert "holds no test answers" in capsys.readouterr().err
    torn = json.loads(evidence("a", 1).encode())
    torn["cases"].pop()
    (tmp_path / "y.json").write_text(json.dumps(torn))
    with pytest.raises(DataError, match="do not belong together"):
        read_evidence(tmp_path / "y.json")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cases", lambda table: [[-1.0, -1.0] for _ in table]),
        ("cases", lambda table: [[0.0, 0.0] for _ in table]),
        ("cases", lambda table: [[float("nan"), 1.0] for _ in table]),
        ("cases", lambda table: [[1e308, 1e308] for _ in table]),
        ("groups", lambda groups: [groups[0]] * len(groups)),
        ("right", lambda right: right | {"personal": [[9.0, 9.0] for _ in right["personal"]]}),
        ("right", lambda right: right | {"personal": [[float("inf"), 0.0] for _ in right["personal"]]}),
    ],
)
def test_figures_that_count_no_cases_give_no_verdict(tmp_path, capsys, name, change):
    stored = json.loads(evidence("a", 1).encode())
    stored[name] = change(stored[name])
    (tmp_path / "x.json").write_text(json.dumps(stored))
    assert main([str(tmp_path / "x.json")]) == 2
    assert "do not belong together" in capsys.readouterr().err


def test_a_file_without_the_arm_to_judge_or_nested_without_end_is_refused(tmp_path, capsys):
    stored = json.loads(evidence("a", 1).encode())
    del stored["right"]["personal"]
    (tmp_path / "x.json").write_text(json.dumps(stored))
    (tmp_path / "y.json").write_text("[" * 100_000)
    for name, words in (("x.json", "lacks the arm"), ("y.json", "holds no test answers")):
        assert main([str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1
