"""A dry run shows what a round would let out and leaves the site as it was: no part, no entry, no answer."""

import pytest

from fl_jobs.errors import FLJobError
from fl_jobs.flare.dry_run import dry_run
from fl_jobs.masking.plans import vector_sizes
from fl_jobs.packaging.spec import PolicySpec
from fl_jobs.simulate import with_tensors
from tests.approvals import approve, write_policy
from tests.fl_jobs.privacy_runs import private_spec
from tests.fl_jobs.recording import spec_of
from tests.fl_jobs.sites import tabular_home

MASKED = PolicySpec(secure_aggregation=True)


def files(home):
    return {str(path.relative_to(home)) for path in home.rglob("*") if "requests" not in path.parts}


@pytest.mark.parametrize("masked", [False, True])
def test_it_shows_the_declared_tensors_and_leaves_nothing(tmp_path, masked):
    home, spec = tabular_home(tmp_path), spec_of("dbe")
    if masked:
        spec = with_tensors(spec.model_copy(update={"policy": MASKED, "min_sites": 3, "tensors": ()}))
    run_id = approve(home, spec)
    (home / "state").mkdir(exist_ok=True)
    before = files(home)
    report = dry_run(home, run_id)
    assert files(home) == before
    answers = {answer["task"]: answer for answer in report["answers"]}
    shown = {tensor["name"]: tuple(tensor["shape"]) for tensor in answers["train"]["tensors"]}
    assert shown == {name: tensor.shape for name, tensor in spec.shared().items()}
    assert ("sums" in answers["train"]["described"]) is not masked
    size = answers["train"]["number_bytes"]
    assert (
        size in vector_sizes(spec, "train")
        if masked
        else size == sum(4 * t.size for t in spec.shared().values())
    )


def test_it_pays_nothing_of_the_privacy_budget(tmp_path):
    home, spec = tabular_home(tmp_path), private_spec()
    run_id = approve(home, spec)
    (home / "state").mkdir(exist_ok=True)
    before = files(home)
    report = dry_run(home, run_id)
    assert files(home) == before
    assert report["answers"][-1]["described"]["site"] is None


def test_what_the_policy_refuses_is_not_tried(tmp_path):
    home, spec = tabular_home(tmp_path), spec_of("dbe")
    run_id = approve(home, spec)
    write_policy(home, "[privacy]\nepsilon = 1\ndelta = 1e-6\n")
    with pytest.raises(FLJobError, match="privacy budget"):
        dry_run(home, run_id)
