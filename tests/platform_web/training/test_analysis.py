"""What a run will say about benefit: asked for in its form, fixed in its specification, said on its page."""

import pytest

from fl_jobs.packaging.spec import POSITIVE, AnalysisSpec
from platform_web.training.models import Run, Study
from platform_web.training.services.submitting import draft_spec


@pytest.fixture
def run_form(run_form):
    return {**run_form, "algorithm": "dbe"}


@pytest.fixture
def three_labels(run_form):
    study = Study.objects.get(slug=run_form["study"])
    study.task = {**study.task, "labels": [*study.task["labels"], "rare"]}
    study.save(update_fields=["task"])
    return study.task["labels"]


def test_left_alone_the_analysis_is_the_usual_one(scientist, run_form):
    scientist.post("/runs/add/", run_form)
    spec = draft_spec(Run.objects.get())
    assert spec.analysis == AnalysisSpec()
    Run.objects.update(analysis=None)  # as before the form asked
    assert draft_spec(Run.objects.get()).canonical() == spec.canonical()
    page = scientist.get(f"/runs/{Run.objects.get().pk}/").content.decode()
    assert "Fixed before any test label was read." in page


def test_what_was_chosen_stands_in_the_specification_and_on_the_page(scientist, run_form, three_labels):
    chosen = {
        "analysis_endpoint": POSITIVE, "analysis_candidate": "tuned", "analysis_margin": 3,
        "analysis_positive": [three_labels[2], three_labels[1]],
    }  # fmt: skip
    scientist.post("/runs/add/", run_form | chosen)
    spec = draft_spec(Run.objects.get())
    assert spec.analysis == AnalysisSpec(
        endpoint=POSITIVE, candidate="tuned", margin=0.03, positive=tuple(three_labels[1:])
    )
    page = scientist.get(f"/runs/{Run.objects.get().pk}/").content.decode()
    assert "positive labels against the others" in page
    assert "3.0 points" in page


@pytest.mark.parametrize(("typed", "margin"), [(0.1, 0.001), (2, 0.02), (2.9, 0.029), (49, 0.49)])
def test_a_margin_is_the_decimal_that_was_typed(scientist, run_form, typed, margin):
    scientist.post("/runs/add/", run_form | {"analysis_margin": typed})
    assert draft_spec(Run.objects.get()).analysis.margin == margin


def test_a_run_from_before_there_was_an_analysis_has_the_usual_one(scientist, run_form):
    scientist.post("/runs/add/", run_form)
    Run.objects.update(analysis=None)
    assert draft_spec(Run.objects.get()).analysis == AnalysisSpec()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"analysis_positive": ["of another study"]}, "is not one of the study&#x27;s labels"),
        ({"analysis_endpoint": POSITIVE}, "tick some, not all"),
        ({"analysis_endpoint": "guess"}, "Select a valid choice"),
        ({"analysis_candidate": "personal", "algorithm": "fedavg"}, "trains no such model"),
        ({"analysis_candidate": "global", "algorithm": "local_only"}, "trains no such model"),
        ({"analysis_margin": 0}, "greater than or equal to 0.1"),
        ({"analysis_margin": 49.5}, "less than or equal to 49"),
        ({"analysis_margin": 2.25}, "step size 0.1"),
        ({"analysis_margin": "much"}, "number of percentage points"),
        ({"analysis_margin": "nan"}, "number of percentage points"),
    ],
)
def test_what_does_not_fit_is_said_at_its_field(scientist, run_form, three_labels, changes, words):
    answer = scientist.post("/runs/add/", run_form | changes)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert words in page
    assert '<details id="analysis" open>' in page
    assert not Run.objects.exists()


def test_a_study_of_two_labels_is_not_offered_what_needs_more(scientist, run_form):
    page = scientist.get(f"/runs/add/?study={run_form['study']}").content.decode()
    assert POSITIVE not in page
    assert scientist.post("/runs/add/", run_form | {"analysis_endpoint": POSITIVE}).status_code == 422
