import json
import subprocess
import sys

import pytest

from fl_jobs.describe import describe
from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import TensorSpec
from tests.fl_jobs.sites import make_spec


def test_the_list_is_the_one_the_sites_will_demand():
    spec = make_spec("dbe")
    bare = spec.model_copy(update={"tensors": ()})
    found = [TensorSpec.model_validate_json(json.dumps(t)) for t in describe(bare.canonical())]
    assert tuple(found) == spec.tensors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"algorithm": "fedx"}, "no algorithm"),
        ({"model": {"name": "image_cnn"}}, "does not fit"),
        ({"hyper_parameters": {"kappa": -1.0}}, "kappa"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_what_cannot_run_gets_a_sentence(change, words):
    data = json.loads(make_spec("dbe").canonical()) | {"tensors": []} | change
    with pytest.raises(SpecError, match=words):
        describe(json.dumps(data).encode())


def test_the_command_answers_with_json_and_status_2_on_refusal():
    done = subprocess.run(
        [sys.executable, "-m", "fl_jobs.describe"], input=b"{}", capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "not valid" in json.loads(done.stdout)["error"]
