import numpy as np
import pytest

from fl_jobs.data import load_part
from fl_jobs.errors import DataError, ModelFileError
from fl_jobs.packaging.spec import run_folder_name
from fl_jobs.predictor import Predictor
from fl_jobs.simulate import run_in_process
from tests.fl_jobs.sites import FEATURES, LABELS, TABULAR, make_spec, tabular_homes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    homes = tabular_homes(tmp_path_factory.mktemp("homes"))
    spec = make_spec("dbe", rounds=2, learning_rate=0.02)
    return spec, homes["a"], run_in_process(spec, homes)[-1]["sites"]["a"]


def paths(trained, arm):
    spec, home, payload = trained
    folder = home / "personal" / "study" / "dbe" / run_folder_name(spec.digest(), "simulated")
    shared = payload["shared_sha256"].get(arm)
    own = folder / arm / f"r{payload['files'][arm]['round']:04d}.safetensors"
    return (home / "artifacts" / "sha256" / shared if shared else None), own


def records(trained):
    part = load_part(trained[1] / "data" / "cases", trained[1] / "registered", "test", TABULAR)
    return part, [dict(zip(FEATURES, map(float, row), strict=True)) for row in part.x]


@pytest.mark.parametrize("arm", ["local", "global", "tuned", "personal"])
def test_what_is_served_is_what_was_measured(trained, arm):
    predictor = Predictor.load(trained[0], arm, *paths(trained, arm))
    part, cases = records(trained)
    answers = predictor.predict(cases)
    right = np.mean([LABELS.index(a.label) == y for a, y in zip(answers, part.y, strict=True)])
    assert right == pytest.approx(trained[2]["cells"][arm]["accuracy"])
    assert all(sum(a.probabilities.values()) == pytest.approx(1) for a in answers)
    assert all(a.label == max(a.probabilities, key=a.probabilities.get) for a in answers)


def test_one_case_gets_the_same_answer_alone_and_among_others(trained):
    predictor = Predictor.load(trained[0], "personal", *paths(trained, "personal"))
    _, cases = records(trained)
    alone, among = predictor.predict(cases[:1])[0], predictor.predict(cases)[0]
    assert alone.label == among.label
    assert alone.probabilities == pytest.approx(among.probabilities, abs=1e-6)


def test_parts_that_do_not_belong_together_are_refused(trained):
    shared, own = paths(trained, "personal")
    _, scaler_only = paths(trained, "global")
    for parts in ((None, own), (shared, scaler_only), (shared, shared), (shared, paths(trained, "local")[1])):
        with pytest.raises(ModelFileError, match="do not fit"):
            Predictor.load(trained[0], "personal", *parts)
    with pytest.raises(ModelFileError, match="cannot be read"):
        Predictor.load(trained[0], "personal", shared, own.with_name("r9999.safetensors"))


def test_a_bad_record_is_named(trained):
    predictor = Predictor.load(trained[0], "personal", *paths(trained, "personal"))
    with pytest.raises(DataError, match="record 1"):
        predictor.predict([{"f0": 1.0}])
