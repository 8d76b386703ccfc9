"""Figures of every algorithm on real cytology, as committed: a change that moves one must say so.

``CONSILIUM_GOLDEN=write python -m pytest tests/fl_jobs/test_golden.py`` writes them anew; commit that
with its reason. The tolerance is for other processors: one case of the cohort (in a balanced figure one case
weighs more where a site has few of its label), and a little loss.
"""

import json
import os
from pathlib import Path

import pytest

from fl_jobs.catalog import ALGORITHMS
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec
from fl_jobs.simulate import run_in_process
from tests.fl_jobs.recording import NAMES
from tests.fl_jobs.test_real_data import deal_cytology

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "cytology_4_sites.json"
WRITES = os.environ.get("CONSILIUM_GOLDEN") == "write"
ROUNDS = 4
TOLERANCE = {"val_loss": 0.01, "val_balanced_accuracy": 0.07, "test_balanced_accuracy": 0.07}
ONE_CASE = 0.012


@pytest.fixture(scope="module")
def cytology(tmp_path_factory):
    return deal_cytology(tmp_path_factory.mktemp("cytology"))


def figures(name, homes, task):
    """The cohort's validation after the last round and its test, in the arm of the algorithm."""
    spec = RunSpec(
        study=StudySpec(slug="golden", purpose="test", dataset="cases", task=task),
        algorithm=name,
        hyper_parameters={"local_epochs": 1},
        model=ModelSpec(name="tabular_mlp", arguments={}),
        rounds=ROUNDS,
        seed=7,
        min_sites=3,
        policy=PolicySpec(secure_aggregation=ALGORITHMS[name].needs_masking),
    )
    arm = spec.arms()[-1]
    *_, validate, finish = run_in_process(spec, homes, run_id=name)
    return validate["validated"]["cohort"][arm] | finish["cohort"][arm]


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_those_committed(cytology, name):
    found = {key: round(value, 6) for key, value in figures(name, *cytology).items()}
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if WRITES:
        GOLDEN.write_text(json.dumps(known | {name: found}, indent=1, sort_keys=True) + "\n")
        known[name] = found
    assert name in known, "Write the figures of a new algorithm: see the top of this file."
    assert found.keys() == known[name].keys()
    for key, value in known[name].items():
        assert found[key] == pytest.approx(value, abs=TOLERANCE.get(key, ONE_CASE)), key


def test_the_file_names_every_algorithm_and_no_other():
    assert sorted(json.loads(GOLDEN.read_text())) == list(NAMES)
