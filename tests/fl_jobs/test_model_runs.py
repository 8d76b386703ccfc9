"""A whole run of every model with three sites, as over NVFlare but in one process."""

import json

import pytest

from fl_jobs.catalog import MODELS
from fl_jobs.models.build import build_model
from fl_jobs.packaging.spec import run_folder_name
from fl_jobs.predictor import Predictor
from fl_jobs.simulate import run_in_process
from tests.fl_jobs.model_cases import (
    SMALL,
    fill_random,
    make_run,
    make_task,
    write_checkpoint,
    write_weights,
)
from tests.fl_jobs.sites import image_home, tabular_home, text_home

HOMES = {"tabular": tabular_home, "image": image_home, "text": text_home}
RECORDS = {"text": "病人 疼痛 发热", "tabular": {f"f{i}": 0.1 for i in range(6)}}


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """Three sites for each kind of task, with a tiny checkpoint in each site's folder of weights."""
    root = tmp_path_factory.mktemp("homes")
    made = {
        kind: {s: make(root / kind / s, seed=i) for i, s in enumerate("abc")} for kind, make in HOMES.items()
    }
    for home in made["text"].values():
        write_checkpoint(home / "weights")
    return made


def arguments_of(name, homes):
    if not MODELS[name].needs_weights:
        return {}
    return {"weights": next(iter((homes["text"]["a"] / "weights").iterdir())).name}


@pytest.mark.parametrize("algorithm", ["fedavg", "dbe"])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_run_of_every_model_finishes_and_is_served(homes, name, algorithm):
    kind = MODELS[name].kinds[0]
    spec = make_run(name, make_task(kind), algorithm, **arguments_of(name, homes))
    records = run_in_process(spec, homes[kind], run_id=name[-8:].replace("_", "-"))
    assert records[-1]["kind"] == "finish"
    assert json.dumps(records, allow_nan=False)
    report = records[-1]["sites"]["a"]
    if kind in RECORDS:
        arm = spec.arms()[-1]
        home, run = homes[kind]["a"], run_folder_name(spec.digest(), name[-8:].replace("_", "-"))
        own = home / "personal" / "study" / algorithm / run / arm
        shared = home / "artifacts" / "sha256" / report["shared_sha256"][arm]
        path = own / f"r{report['files'][arm]['round']:04d}.safetensors"
        predictor = Predictor.load(spec, arm, shared, path, home / "weights")
        answer = predictor.predict([RECORDS[kind]])[0]
        assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_run_with_batch_normalisation_finishes(homes, norm):
    task = make_task("image")
    network = make_run("image_resnet18", task, tensors=False, norm="batch", seed=3)
    tensors = fill_random(build_model(network).base)
    told = {
        write_weights(home / "weights", {k: v for k, v in tensors.items() if not k.startswith("fc.")})
        for home in homes["image"].values()
    }
    spec = make_run("image_resnet18", task, norm=norm, weights=told.pop())
    assert not told
    assert any("running_var" in t.name for t in spec.tensors) == (norm == "batch")
    records = run_in_process(spec, homes["image"], run_id=norm)
    assert records[-1]["kind"] == "finish"
    assert json.dumps(records, allow_nan=False)
