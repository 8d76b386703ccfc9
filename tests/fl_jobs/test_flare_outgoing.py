"""The site's gate: everything that was not declared stays at the site."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from fl_jobs.errors import FLJobError, SharedStateError
from fl_jobs.flare import wire
from fl_jobs.flare.outgoing import check_outgoing
from fl_jobs.flare.site_filter import SharedTensorFilter
from fl_jobs.masking.plans import vector_sizes
from fl_jobs.messages import SUM_NAMES, Contribution, MaskedContribution, TaskOrder
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec, TensorSpec
from secure_agg.messages import Reveal, Upload
from tests.approvals import STANDING, approve, deploy, write_policy

SPEC = RunSpec(
    study=StudySpec(
        slug="cytology",
        purpose="test",
        dataset="cytology",
        task=TaskSpec(kind="tabular", labels=("benign", "malignant"), features=("x",)),
    ),
    algorithm="dbe",
    hyper_parameters={},
    model=ModelSpec(name="tabular_mlp"),
    rounds=3,
    seed=1,
    min_sites=2,
    policy=PolicySpec(secure_aggregation=False),
    tensors=(
        TensorSpec(arm="global", phase="train", name="w", shape=(2, 3)),
        TensorSpec(arm="personal", phase="feature_mean", name="mean", shape=(4,)),
    ),
)
W = {"global/w": np.ones((2, 3), np.float32)}


def text(task: str = "train", **changed: object) -> dict[str, object]:
    sums = {"global": dict.fromkeys(SUM_NAMES.get(task, ()), 1.0)}
    metrics = {"sums": sums, "initial_sha256": "0" * 64, "site": None}
    return {
        "name": task,
        "round": 1,
        "phase": "train",
        "run": SPEC.digest(),
        "lanes": {"samples": 12.0, "one": 1.0},
        "metrics": metrics | changed,
    }


def check(tensors, task="train", share=False, **changed):
    check_outgoing(text(task, **changed), tensors, SPEC, task, share_site_metrics=share)


def test_declared_tensors_pass():
    check(W)


@pytest.mark.parametrize(
    "tensors",
    [
        {"personal/head.weight": np.ones(3, np.float32)},
        {"global/w": np.ones((3, 2), np.float32)},
        {"global/w": np.ones((2, 3), np.float64)},
        {"global/w": np.full((2, 3), np.nan, np.float32)},
        {"global/w": np.full((2, 3), np.inf, np.float32)},
        {"personal/mean": np.ones(4, np.float32)},
    ],
    ids=["undeclared", "shape", "dtype", "nan", "infinity", "of another phase"],
)
def test_a_tensor_that_is_not_as_declared_stays(tensors):
    with pytest.raises(SharedStateError):
        check(W | tensors)


@pytest.mark.parametrize("task", ["validate", "finish", "unknown"])
def test_no_tensor_leaves_with_a_task_that_declares_none(task):
    with pytest.raises(SharedStateError, match="not declared"):
        check(W, task)


def test_a_phase_sends_its_own_tensors_and_not_those_of_training():
    mean = {"personal/mean": np.ones(4, np.float32)}
    phase = text("phase") | {"phase": "feature_mean"}
    check_outgoing(phase, mean, SPEC, "phase", share_site_metrics=False)
    with pytest.raises(SharedStateError):
        check_outgoing(phase, W, SPEC, "phase", share_site_metrics=False)
    with pytest.raises(SharedStateError):
        check_outgoing(text("phase"), W, SPEC, "phase", share_site_metrics=False)


@pytest.mark.parametrize(
    "changed",
    [
        {"note": "patient 7"},
        {"sums": {"global": {"patient_7": 1.0}}},
        {"sums": {"other": {}}},
        {"sums": {"global": {"train_loss": "patient 7"}}},
        {"sums": {"global": {"train_loss": [1.0, 2.0]}}},
        {"initial_sha256": "patient 7"},
    ],
)
def test_nothing_rides_along_in_the_metrics(changed):
    with pytest.raises(SharedStateError):
        check(W, **changed)


def test_nothing_rides_along_in_the_message():
    with pytest.raises(SharedStateError, match="extra"):
        check_outgoing(text() | {"extra": 1}, W, SPEC, "train", share_site_metrics=True)


def test_a_sites_own_metrics_leave_only_when_its_policy_shares_them():
    cells = {"trained": {"global": {"train_loss": 0.4}}}
    check(W, share=True, site=cells)
    with pytest.raises(SharedStateError, match="policy keeps"):
        check(W, share=False, site=cells)


def test_the_final_report_of_a_private_site_has_digests_and_no_cells():
    report = {"files": {"local": {"round": 1, "personal_sha256": "0" * 64}}, "cells": None}
    check({}, "finish", site={"finish": report})
    with pytest.raises(SharedStateError, match="policy keeps"):
        check({}, "finish", site={"finish": report | {"cells": {"local": {"auroc": 0.9}}}})
    with pytest.raises(SharedStateError, match="no run declares"):
        check({}, "finish", site={"finish": report | {"rows_of_patients": []}})


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    "rows",
    [
        {"files": {"local": {"round": 1, "personal_sha256": "patient 7"}}},
        {"files": {"local": {"round": 10**300, "personal_sha256": "0" * 64}}},
        {"files": {"patient 7": {"round": 1, "personal_sha256": "0" * 64}}},
        {"files": {"local": {"round": 1, "personal_sha256": "0" * 64, "rows": [1, 2]}}},
        {"shared_sha256": {"global": "patient 7"}},
        {"files": ["patient 7"]},
    ],
)
def test_the_names_of_files_carry_nothing_else(share, rows):
    with pytest.raises(SharedStateError):
        check({}, "finish", share, site={"finish": rows})


def test_a_sites_own_figures_do_not_fill_pages():
    with pytest.raises(SharedStateError, match="longer"):
        check(W, share=True, site={"trained": {"global": {"train_loss": "7" * 70_000}}})


KEEPS = STANDING + "[output]\nshare_site_metrics = false\n"


def place(home, spec):
    """The approved run and its job."""
    shutil.rmtree(home / "app", ignore_errors=True)
    run_id = approve(home, spec)
    deploy(home / "app", spec, run_id)
    return run_id


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site's home with an approved run, its deployed job, and the NVFlare context of a train task."""
    monkeypatch.setenv("CONSILIUM_SITE_HOME", str(tmp_path))
    (tmp_path / "site.json").write_text("{}")
    write_policy(tmp_path, KEEPS)
    place(tmp_path, SPEC)
    workspace = SimpleNamespace(get_app_dir=lambda _job: str(tmp_path / "app"))
    context = SimpleNamespace(
        get_job_id=lambda: "job",
        get_engine=lambda: SimpleNamespace(get_workspace=lambda: workspace),
        get_prop=lambda key: "train" if key == FLContextKey.TASK_NAME else None,
    )
    return SimpleNamespace(home=tmp_path, context=context)


def result(site_part: object = None) -> Shareable:
    metrics = {"sums": {"global": {"train_loss": 1.0}}, "initial_sha256": "0" * 64, "site": site_part}
    contribution = Contribution(dict(W), {"samples": 12.0, "one": 1.0}, metrics)
    return wire.contribution_to_shareable(contribution, TaskOrder("train", 1), SPEC.digest())


def test_the_filter_passes_two_keys_and_no_header_of_the_executors_making(site):
    shareable = result()
    shareable["smuggled"] = np.ones(9)
    shareable.set_header("smuggled", "too")
    passed = SharedTensorFilter().process(shareable, site.context)
    assert {key for key in passed if not key.startswith("__")} == {wire.TEXT_KEY, wire.TENSORS_KEY}
    assert passed.get_header("smuggled") is None


@pytest.mark.parametrize("changed", [{"round": 10**400}, {"round": 99}, {"phase": "patient 7"}])
def test_no_bits_ride_in_integers_or_words(changed):
    with pytest.raises(SharedStateError):
        check_outgoing(text() | changed, W, SPEC, "train", share_site_metrics=False)
    with pytest.raises(SharedStateError):
        check(W, sums={"global": {"train_loss": 10**400}})


def test_without_a_site_home_nothing_leaves(site, monkeypatch):
    monkeypatch.delenv("CONSILIUM_SITE_HOME")
    with pytest.raises(FLJobError, match="CONSILIUM_SITE_HOME"):
        SharedTensorFilter().process(result(), site.context)


def test_an_error_reply_leaves_without_its_luggage(site):
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    reply[wire.ERROR_KEY] = "x" * 1000
    reply["smuggled"] = np.ones(9)
    passed = SharedTensorFilter().process(reply, site.context)
    assert "smuggled" not in passed
    assert len(passed[wire.ERROR_KEY]) <= wire.SENTENCE_CHARACTERS_MAX
    assert passed.get_return_code() == ReturnCode.EXECUTION_EXCEPTION


def test_any_other_payload_than_ours_stays(site):
    shareable = Shareable()
    shareable["DXO"] = {"weights": np.ones(9)}
    with pytest.raises(SharedStateError):
        SharedTensorFilter().process(shareable, site.context)


MASKED = SPEC.model_copy(update={"policy": PolicySpec(secure_aggregation=True), "min_sites": 3})


@pytest.fixture
def masked_site(site):
    place(site.home, MASKED)
    return site


def masked_result(task="train", *, size=None, kind=Upload.TYPE, open_part=None) -> Shareable:
    size = min(vector_sizes(MASKED, task)) if size is None else size
    message = b"FLSA\x01" + bytes([kind]) + b"body"
    part = {"initial_sha256": "0" * 64, "site": None} if open_part is None else open_part
    masked = MaskedContribution(message, np.zeros(size, np.uint8), part)
    return wire.masked_to_shareable(masked, TaskOrder(task, 1), MASKED.digest())


def test_a_masked_answer_passes_with_three_keys(masked_site):
    shareable = masked_result()
    shareable["smuggled"] = np.ones(9)
    passed = SharedTensorFilter().process(shareable, masked_site.context)
    keys = {key for key in passed if not key.startswith("__")}
    assert keys == {wire.TEXT_KEY, wire.FLSA_KEY, wire.VECTOR_KEY}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"size": 7}, "length"),
        ({"kind": Reveal.TYPE}, "does not answer train"),
        ({"open_part": {"sums": {"global": {"train_loss": 1.0}}}}, "no run declares"),
        ({"open_part": {"site": {"trained": {"global": {"train_loss": 1.0}}}}}, "policy keeps"),
    ],
)
def test_what_is_not_masked_stays_in_a_masked_run(masked_site, changed, words):
    with pytest.raises(SharedStateError, match=words):
        SharedTensorFilter().process(masked_result(**changed), masked_site.context)


def test_an_update_in_the_clear_stays_in_a_masked_run(masked_site):
    contribution = Contribution(dict(W), {"samples": 12.0, "one": 1.0}, {"sums": {}, "site": None})
    clear = wire.contribution_to_shareable(contribution, TaskOrder("train", 1), MASKED.digest())
    with pytest.raises(SharedStateError, match="secure aggregation is missing"):
        SharedTensorFilter().process(clear, masked_site.context)


def test_a_step_of_the_protocol_is_answered_by_its_own_message_only(masked_site):
    masked_site.context.get_prop = lambda key: wire.REVEAL if key == FLContextKey.TASK_NAME else None
    reveal = wire.message_to_shareable(b"FLSA\x01" + bytes([Reveal.TYPE]))
    passed = SharedTensorFilter().process(reveal, masked_site.context)
    assert {key for key in passed if not key.startswith("__")} == {wire.FLSA_KEY}
    other = wire.message_to_shareable(b"FLSA\x01" + bytes([Upload.TYPE]))
    with pytest.raises(SharedStateError, match="does not answer"):
        SharedTensorFilter().process(other, masked_site.context)


def test_a_masked_run_that_needs_more_than_three_sites_passes_too(site):
    needing = MASKED.model_copy(update={"min_sites": 5})
    assert vector_sizes(needing, "train") == vector_sizes(MASKED, "train")
