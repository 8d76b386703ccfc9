"""Server and sites together, in one process."""

import json
import math

import numpy as np
import pytest
import torch

import fl_jobs.site_session.session as site_module
from fl_jobs.aggregation import gather
from fl_jobs.errors import AggregationError, DataError, ModelFileError, SharedStateError, SpecError
from fl_jobs.messages import METRIC_KEYS, SUM_NAMES, Contribution
from fl_jobs.packaging.spec import RunSpec, run_folder_name
from fl_jobs.server_session import ServerSession
from fl_jobs.simulate import run_in_process
from fl_jobs.tensor_files import encode_tensors, read_tensors, write_tensors
from tests.fl_jobs.driving import drive, open_sites
from tests.fl_jobs.sites import IMAGE, TEXT, image_home, make_spec, tabular_home, tabular_homes, text_home


def test_a_run_has_its_records_in_order(tmp_path):
    spec = make_spec("dbe", rounds=3)
    records = run_in_process(spec, tabular_homes(tmp_path))
    assert [record["kind"] for record in records] == [
        "phase",
        "round",
        "round",
        "round",
        "validate",
        "finish",
    ]
    assert records[1]["validated"] is None
    assert [record["validated"]["round"] for record in records[2:5]] == [1, 2, 3]
    assert set(records[-1]["chosen"]) == {"local", "global", "personal"}
    assert json.dumps(records, allow_nan=False)


@pytest.mark.parametrize("algorithm", ["dbe", "fedavg", "local_only"])
def test_every_algorithm_finishes_with_its_arms(tmp_path, algorithm):
    spec = make_spec(algorithm)
    finish = run_in_process(spec, tabular_homes(tmp_path))[-1]
    arms = set(spec.arms()) | ({"tuned"} if "global" in spec.arms() else set())
    for payload in finish["sites"].values():
        assert payload["files"].keys() == payload["cells"].keys() == arms
        assert payload["differences"].keys() == arms - {"local"}
        assert payload["shared_sha256"].keys() == set(spec.arms()) - {"local"}


@pytest.mark.parametrize(("make", "task"), [(image_home, IMAGE), (text_home, TEXT)])
def test_images_and_texts_run_too(tmp_path, make, task):
    homes = {name: make(tmp_path / name, seed=seed) for seed, name in enumerate("ab")}
    finish = run_in_process(make_spec("dbe", task), homes)[-1]
    assert all(0 <= p["cells"]["personal"]["accuracy"] <= 1 for p in finish["sites"].values())


def test_two_runs_of_one_seed_are_equal_to_the_last_bit(tmp_path):
    spec = make_spec("dbe")
    first = run_in_process(spec, tabular_homes(tmp_path / "1"))
    assert first == run_in_process(spec, tabular_homes(tmp_path / "2"))


def test_personal_beats_fedavg_where_sites_differ_in_how_common_a_label_is(tmp_path):
    """Two sites with opposite concepts: one common model cannot serve both, local-only can."""
    homes = {"a": tabular_home(tmp_path / "a", 90), "b": tabular_home(tmp_path / "b", 90, seed=1, flip=True)}
    records = run_in_process(make_spec("dbe", rounds=5, learning_rate=0.02, local_epochs=4), homes)
    last = records[-2]["validated"]["cohort"]
    assert last["local"]["val_accuracy"] > 0.85
    assert last["global"]["val_accuracy"] < 0.75
    assert last["personal"]["val_loss"] <= last["global"]["val_loss"] * 1.05


def test_only_declared_tensors_leave_and_metrics_are_known(tmp_path):
    spec = make_spec("dbe")
    site = open_sites(spec, {"a": tabular_home(tmp_path)})["a"]
    server = ServerSession(spec)
    while (order := server.next_order()) is not None:
        answer = site.execute(order)
        phase = {"train": "train", "phase": order.header.get("phase")}.get(order.name)
        assert answer.tensors.keys() == (spec.shared(phase).keys() if phase else set())
        assert answer.metrics.keys() == METRIC_KEYS
        assert all(values.keys() <= set(SUM_NAMES[order.name]) for values in answer.metrics["sums"].values())
        server.fold(order, gather(order, spec, {"a": answer}))


def test_a_site_that_shares_no_metrics_sends_sums_and_digests_only(tmp_path):
    spec = make_spec("dbe")
    records, _ = drive(ServerSession(spec), open_sites(spec, tabular_homes(tmp_path), share=False))
    assert all(v is None for r in records if r["kind"] == "round" for v in r["site_metrics"].values())
    for payload in records[-1]["sites"].values():
        assert (
            payload["cells"]
            is payload["differences"]
            is payload["proposal"]
            is payload["absent_labels"]
            is payload["rows"]
            is None
        )
        assert payload["files"]["personal"]["personal_sha256"]
    assert records[-2]["validated"]["cohort"]["personal"]["val_loss"] > 0


def test_the_test_part_is_read_by_finish_only(tmp_path, monkeypatch):
    asked = []
    real = site_module.load_part
    monkeypatch.setattr(site_module, "load_part", lambda *args: asked.append(args[2]) or real(*args))
    spec = make_spec("dbe")
    server, sites = ServerSession(spec), open_sites(spec, tabular_homes(tmp_path))
    drive(server, sites, until="finish")
    assert set(asked) == {"train", "validation"}
    drive(server, sites)
    assert asked.count("test") == len(sites)


def test_resumed_on_the_server_equals_uninterrupted(tmp_path):
    spec = make_spec("dbe", rounds=4)
    whole, _ = drive(ServerSession(spec), open_sites(spec, tabular_homes(tmp_path / "whole")))
    homes = tabular_homes(tmp_path / "cut")
    server, sites, before, commits = ServerSession(spec), open_sites(spec, homes), [], {}
    while (order := server.next_order()).round_number <= 2:
        answers = {name: site.execute(order) for name, site in sites.items()}
        commit = server.fold(order, gather(order, spec, answers))
        before.append(commit.record)
        commits[order.round_number] = commit.tensors
    sites["a"].execute(order)  # the server dies in round 3, after one site has trained it
    again = ServerSession(
        spec, start_round=3, previous=commits[2], records=before, load_round=commits.__getitem__
    )
    after, _ = drive(again, open_sites(spec, homes))  # sites start anew as well, from their disk
    assert after[-1] == whole[-1]
    assert before + after == whole


def test_resuming_needs_the_aggregate(tmp_path):
    with pytest.raises(SharedStateError, match="Start from the first round"):
        ServerSession(make_spec("dbe"), start_round=2, previous={})


def test_a_site_that_misses_rounds_or_joins_late_still_ends_with_its_model(tmp_path):
    spec = make_spec("dbe", rounds=4)
    sites = open_sites(spec, tabular_homes(tmp_path))

    def absent(order):
        late = ["c"] if order.name == "phase" or order.round_number <= 2 else []
        return [*late, *(["b"] if order.name == "train" and order.round_number == 2 else [])]

    records, _ = drive(ServerSession(spec), sites, absent=absent)
    assert [record.get("sites") for record in records[:5]] == [
        ["a", "b"],
        ["a", "b"],
        ["a"],
        list("abc"),
        list("abc"),
    ]
    for payload in records[-1]["sites"].values():
        assert payload["files"].keys() == {"local", "global", "personal", "tuned"}


def test_versions_match_files_on_disk(tmp_path):
    spec = make_spec("dbe", rounds=3)
    homes = tabular_homes(tmp_path)
    finish = run_in_process(spec, homes)[-1]
    for name, payload in finish["sites"].items():
        folder = homes[name] / "personal" / "study" / "dbe" / run_folder_name(spec.digest(), "simulated")
        assert RunSpec.model_validate_json((folder / "run_spec.json").read_bytes()) == spec
        for arm, file in payload["files"].items():
            path = folder / arm / f"r{file['round']:04d}.safetensors"
            read_tensors(path, sha256=file["personal_sha256"])
            assert path.stat().st_mode & 0o077 == 0
            assert len(list((folder / arm).glob("*.safetensors"))) <= 2
        for sha256 in payload["shared_sha256"].values():
            read_tensors(homes[name] / "artifacts" / "sha256" / sha256, sha256=sha256)
    digests = [payload["shared_sha256"] for payload in finish["sites"].values()]
    assert all(other == digests[0] for other in digests)


def test_the_server_holds_the_same_shared_bytes_as_the_sites(tmp_path):
    import hashlib

    spec = make_spec("dbe")
    server = ServerSession(spec)
    records, _ = drive(server, open_sites(spec, tabular_homes(tmp_path)))
    expected = records[-1]["sites"]["a"]["shared_sha256"]
    found = {
        arm: hashlib.sha256(encode_tensors(part)).hexdigest() for arm, part in server.chosen_shared().items()
    }
    assert found == expected


def test_the_personal_part_holds_what_is_not_shared(tmp_path):
    spec = make_spec("dbe", rounds=1)
    homes = tabular_homes(tmp_path)
    run_in_process(spec, homes)
    folder = homes["a"] / "personal" / "study" / "dbe" / run_folder_name(spec.digest(), "simulated")
    names = {
        arm: set(read_tensors(folder / arm / "r0001.safetensors"))
        for arm in ("local", "global", "personal", "tuned")
    }
    scaler = {"scaler.mean", "scaler.std"}
    assert names["global"] == scaler
    assert names["personal"] == scaler | {"offset_K"}
    assert names["local"] == names["tuned"] > scaler | {"head.weight"}


def test_an_altered_personal_part_stops_the_site(tmp_path):
    spec = make_spec("dbe", rounds=2)
    homes = tabular_homes(tmp_path)
    server, sites = ServerSession(spec), open_sites(spec, homes)
    for _ in range(2):
        order = server.next_order()
        answers = {name: site.execute(order) for name, site in sites.items()}
        server.fold(order, gather(order, spec, answers))
    folder = homes["a"] / "personal" / "study" / "dbe" / run_folder_name(spec.digest(), "run")
    path = folder / "personal" / "r0001.safetensors"
    write_tensors(path, {name: value + 1 for name, value in read_tensors(path).items()})
    with pytest.raises(ModelFileError, match="was altered"):
        sites["a"].execute(server.next_order())


def test_a_task_done_twice_gives_the_same_answer(tmp_path):
    spec = make_spec("dbe", rounds=2)
    server, sites = ServerSession(spec), open_sites(spec, tabular_homes(tmp_path))
    for _ in range(2):
        order = server.next_order()
        answers = {name: site.execute(order) for name, site in sites.items()}
        server.fold(order, gather(order, spec, answers))
    order = server.next_order()
    first, second = (sites["a"].execute(order) for _ in range(2))
    assert first.metrics == second.metrics
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_sites_that_built_different_models_are_named(tmp_path):
    spec = make_spec("fedavg")
    server, sites = ServerSession(spec), open_sites(spec, tabular_homes(tmp_path))
    order = server.next_order()
    answers = {name: site.execute(order) for name, site in sites.items()}
    other = answers["b"].metrics | {"initial_sha256": "0" * 64}
    answers["b"] = Contribution(answers["b"].tensors, answers["b"].lanes, other)
    with pytest.raises(AggregationError, match="Sites a and b built different"):
        server.fold(order, gather(order, server.spec, answers))
    assert server.next_order() == order


def test_a_specification_with_another_tensor_list_is_refused(tmp_path):
    spec = make_spec("dbe")
    short = spec.model_copy(update={"tensors": spec.tensors[:-1]})
    with pytest.raises(SpecError, match="other tensors"):
        open_sites(short, {"a": tabular_home(tmp_path)})


def test_unknown_tasks_phases_and_data_get_a_sentence(tmp_path):
    from fl_jobs.messages import TaskOrder

    site = open_sites(make_spec("dbe"), {"a": tabular_home(tmp_path / "a")})["a"]
    with pytest.raises(SharedStateError, match="does not know the task"):
        site.execute(TaskOrder("upload_everything", 1))
    with pytest.raises(SharedStateError, match="no phase"):
        site.execute(TaskOrder("phase", 0, {"arm": "personal", "phase": "offset"}))
    empty = open_sites(make_spec("dbe"), {"a": tmp_path / "empty"})["a"]
    with pytest.raises(DataError, match="manifest"):
        empty.execute(TaskOrder("train", 1))


def test_training_that_diverges_says_what_to_do(tmp_path, monkeypatch):
    from fl_jobs.errors import FLJobError

    home = tabular_home(tmp_path)
    session = open_sites(make_spec("local_only"), {"a": home})["a"]
    session.models._initial["local"]["head.bias"] += math.nan
    with pytest.raises(FLJobError, match="Lower the learning rate"):
        session.execute(ServerSession(session.spec).next_order())


def test_the_session_uses_one_thread(tmp_path):
    open_sites(make_spec("fedavg"), {"a": tabular_home(tmp_path)})
    assert torch.get_num_threads() == 1
