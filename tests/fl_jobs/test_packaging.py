"""The job folder: configuration only, bound to the run's digest."""

import json
from pathlib import Path

import pytest

from fl_jobs.errors import SpecError
from fl_jobs.packaging.job import read_spec, write_job
from fl_jobs.packaging.manifest import JobManifest, verify_job
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec, TensorSpec
from site_kits.fence import JOB_CLASSES, SCOPE
from site_kits.provisioning.flare_policy import SERVER_CLASSES

RUN_ID = "0f9f9a44-6f2e-4e0e-9f1f-1d5c9e1f2a3b"
SITES = ("hospital-a", "hospital-b")


@pytest.fixture
def spec() -> RunSpec:
    return RunSpec(
        study=StudySpec(
            slug="cytology",
            purpose="test",
            dataset="cytology",
            task=TaskSpec(kind="tabular", labels=("benign", "malignant"), features=("x",)),
        ),
        algorithm="fedavg",
        hyper_parameters={"learning_rate": 0.003},
        model=ModelSpec(name="tabular_mlp"),
        rounds=3,
        seed=1,
        min_sites=2,
        policy=PolicySpec(secure_aggregation=False),
        tensors=(TensorSpec(arm="global", phase="train", name="w", shape=(2, 3)),),
    )


def write(folder: Path, spec: RunSpec, **changed: object) -> JobManifest:
    arguments = {"run_id": RUN_ID, "epoch": 1, "start_round": 1, "sites": SITES, "asked_by": "ann"}
    return write_job(folder, spec, **(arguments | changed))


def test_a_job_carries_configuration_and_no_code(tmp_path, spec):
    manifest = write(tmp_path / "job", spec)
    assert set(manifest.files) == {
        "meta.json",
        "app_server/config/config_fed_server.json",
        "app_server/config/run_spec.json",
        "app_site/config/config_fed_client.json",
        "app_site/config/run_spec.json",
    }


def test_every_class_of_a_job_is_on_the_allow_list(tmp_path, spec):
    write(tmp_path / "job", spec)
    for app, side, classes in (
        ("app_server", "server", SERVER_CLASSES), ("app_site", "client", list(JOB_CLASSES)),
    ):  # fmt: skip
        text = (tmp_path / "job" / app / "config" / f"config_fed_{side}.json").read_text()
        paths = [line.split('"')[3] for line in text.splitlines() if '"path":' in line]
        assert paths == classes


def test_only_the_named_sites_get_the_job(tmp_path, spec):
    write(tmp_path / "job", spec)
    meta = json.loads((tmp_path / "job" / "meta.json").read_text())
    assert meta["deploy_map"] == {"app_server": ["server"], "app_site": list(SITES)}
    assert meta["min_clients"] == spec.min_sites
    assert meta["scope"] == SCOPE
    assert meta["custom_props"]["asked_by"] == "ann"


def test_a_resumed_run_keeps_its_digest(tmp_path, spec):
    first = write(tmp_path / "one", spec)
    second = write(tmp_path / "two", spec, epoch=2, start_round=3)
    assert first.run_digest == second.run_digest == spec.digest()


def test_the_specification_is_read_back_only_under_its_digest(tmp_path, spec):
    write(tmp_path / "job", spec)
    config = tmp_path / "job" / "app_site" / "config"
    assert read_spec(config, spec.digest()) == spec
    changed = spec.model_copy(update={"rounds": 4})
    (config / "run_spec.json").write_bytes(changed.canonical())
    with pytest.raises(SpecError, match="not the one that was approved"):
        read_spec(config, spec.digest())


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"sites": ("hospital-a",)}, "at least 2 different sites"),
        ({"sites": ("hospital-a", "hospital-a")}, "at least 2 different sites"),
        ({"sites": ("hospital-a", "../b")}, "not a site name"),
        ({"sites": ("hospital-a", "server")}, "not a site name"),
        ({"run_id": "../../x"}, "not a run id"),
        ({"start_round": 9}, "cannot start at round 9"),
    ],
)
def test_a_run_that_cannot_be_a_job_writes_nothing(tmp_path, spec, changed, sentence):
    with pytest.raises(SpecError, match=sentence):
        write(tmp_path / "job", spec, **changed)
    assert not (tmp_path / "job").exists()


def test_a_changed_job_is_noticed(tmp_path, spec):
    manifest = write(tmp_path / "job", spec)
    verify_job(tmp_path / "job", manifest)
    (tmp_path / "job" / "app_site" / "custom").mkdir()
    (tmp_path / "job" / "app_site" / "custom" / "evil.py").write_text("")
    with pytest.raises(SpecError, match=r"evil\.py"):
        verify_job(tmp_path / "job", manifest)
