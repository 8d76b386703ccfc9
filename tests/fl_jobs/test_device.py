"""A site computes where its operator says, and what leaves or stays is then as if it were the CPU."""

import os
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext

from fl_jobs import device
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.algorithms.fedavg import FedAvg
from fl_jobs.catalog import MODELS
from fl_jobs.device import CPU, VARIABLE, site_device
from fl_jobs.errors import DeviceError
from fl_jobs.evaluation import predict_probabilities
from fl_jobs.flare import executor as door
from fl_jobs.private_steps import PrivateSteps
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession
from fl_jobs.tensor_files import read_tensors
from fl_jobs.training import Cases, train_phase
from tests.approvals import approve, deploy
from tests.fl_jobs.elsewhere import ELSEWHERE, apart
from tests.fl_jobs.model_cases import inputs, make_run, make_task
from tests.fl_jobs.recording import NAMES, Recording, make_homes, spec_of
from tests.fl_jobs.sites import FEATURES, tabular_home

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU with CUDA here")
SETTINGS = {"class_weights": "balanced", "augmentation": "strong", "clip_norm": 1.0}
Y = torch.tensor([0, 1, 0, 1, 1])


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(device, "_repeat_steps", lambda: None)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("wished", [None, "", "auto", "cpu", " cpu "])
def test_without_a_gpu_a_site_computes_on_its_processor(no_gpu, monkeypatch, wished):
    monkeypatch.setenv(VARIABLE, wished) if wished is not None else monkeypatch.delenv(VARIABLE, False)
    assert site_device() == CPU


@pytest.mark.parametrize(
    ("wished", "found"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_with_gpus_the_operator_chooses(two_gpus, monkeypatch, wished, found):
    monkeypatch.setenv(VARIABLE, wished)
    assert site_device() == torch.device(found)


def test_gpus_are_numbered_as_nvidia_smi_numbers_them(two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")  # so that it is put back after the test
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv(VARIABLE, "cuda:1")
    site_device()
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.fixture
def executor(tmp_path, monkeypatch):
    spec, home = spec_of("fedavg"), tabular_home(tmp_path)
    monkeypatch.setattr(door, "exit_with_parent", lambda: None)
    monkeypatch.setattr(door, "find_site_home", lambda: home)
    run_id = approve(home, spec)
    deploy(home / "app", spec, run_id)
    return door.ConsiliumExecutor(run_id, spec.digest(), 1)


def start(executor):
    context = MagicMock(FLContext)
    context.get_identity_name.return_value = "a"
    context.get_peer_context.return_value = None
    context.get_engine().get_workspace().get_app_dir.return_value = str(door.find_site_home() / "app")
    executor.handle_event(EventType.START_RUN, context)


def test_a_job_process_computes_where_the_operator_said(executor, two_gpus, monkeypatch):
    monkeypatch.setenv(VARIABLE, "cuda:1")
    start(executor)
    assert executor._session.device == torch.device("cuda:1")


def test_a_job_process_without_the_chosen_gpu_takes_no_part(executor, no_gpu, monkeypatch):
    monkeypatch.setenv(VARIABLE, "cuda")
    start(executor)
    assert executor._session is None
    assert "(DeviceError)" in executor._refusal


@pytest.mark.parametrize("wished", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:1,2", "mps", "0"])
def test_a_word_that_names_no_device_gets_a_sentence(two_gpus, monkeypatch, wished):
    monkeypatch.setenv(VARIABLE, wished)
    with pytest.raises(DeviceError, match="Set it to auto, cpu, cuda or cuda:N"):
        site_device()


def test_a_gpu_that_is_not_there_gets_a_sentence(two_gpus, monkeypatch):
    monkeypatch.setenv(VARIABLE, "cuda:2")
    with pytest.raises(DeviceError, match="GPUs that torch sees here is 2"):
        site_device()


@pytest.mark.parametrize("wished", ["cuda", "cuda:0"])
def test_a_gpu_on_a_machine_without_gets_a_sentence(no_gpu, monkeypatch, wished):
    monkeypatch.setenv(VARIABLE, wished)
    with pytest.raises(DeviceError, match=r"is 0\. Check the driver.*CONSILIUM_DEVICE=cpu") as caught:
        site_device()
    assert "CONSILIUM" not in door._sentence(caught.value)  # the portal hears that, not why


def test_on_a_gpu_steps_are_set_to_repeat(monkeypatch):
    asked = []
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # an operator's own choice stays
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on, warn_only: asked.append(on))
    before = torch.backends.cudnn.allow_tf32
    try:
        device._repeat_steps()
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert asked == [True]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_gpu_without_memory_gets_a_sentence(tmp_path, monkeypatch):
    spec, home = spec_of("fedavg"), tabular_home(tmp_path)
    site = SiteSession(spec, run_id="run", site="a", site_home=home, share_site_metrics=True)

    def full(order):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(site, "_carry_out", full)
    with pytest.raises(DeviceError, match="too little free memory"):
        site.execute(ServerSession(spec).next_order())


def play(spec, root, where=CPU):
    """A run of one site, on its disk what it keeps."""
    run = Recording(spec, make_homes(root, spec.study.task.kind, sites=("a",)))
    run.sites = {
        "a": SiteSession(
            spec, run_id="run", site="a", site_home=run.homes["a"], share_site_metrics=True, device=where
        )
    }
    run.drive(ServerSession(spec))
    return run


def same_bits(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.dtype == wanted[name].dtype
        assert value.flags.c_contiguous
        assert value.tobytes() == wanted[name].tobytes(), name


@pytest.mark.parametrize("kind", ["image", "tabular"])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_on_another_device_is_the_run_on_the_cpu(name, kind, tmp_path, monkeypatch):
    """Every tensor the loop, the hooks and the measuring make has to be where the model is."""
    monkeypatch.setattr("fl_jobs.training.IMAGES", 0)  # with channels last the CPU rounds in its own way
    spec = spec_of(name, kind, rounds=2, **SETTINGS)
    wanted = play(spec, tmp_path / "here")
    with apart(monkeypatch) as mode:
        found = play(spec, tmp_path / "there", ELSEWHERE)
    assert mode.operations > 500
    assert found.records == wanted.records
    for (_, one), (_, other) in zip(found.answers, wanted.answers, strict=True):
        same_bits(one["a"].tensors, other["a"].tensors)
    for arm in spec.arms():
        same_bits(*(read_tensors(run.personal_file("a", arm, 2)) for run in (found, wanted)))


@pytest.mark.parametrize("name", sorted(n for n, entry in MODELS.items() if not entry.needs_weights))
def test_every_model_trains_and_answers_on_another_device(name, monkeypatch):
    task = make_task(MODELS[name].kinds[0])
    spec, x = make_run(name, task, tensors=False), inputs(task)
    with apart(monkeypatch):
        algorithm = build_algorithm(spec, "global").to(ELSEWHERE)
        train_phase(algorithm, "train", Cases(x, Y), seed=1, words=("a", 1))
        assert all(value.device == ELSEWHERE for value in algorithm.state_dict().values())
        assert np.isfinite(predict_probabilities(algorithm, x)).all()


def test_noised_steps_on_another_device_are_those_on_the_cpu(monkeypatch):
    x = torch.randn(5, len(FEATURES), generator=torch.Generator().manual_seed(0))
    cases, states = Cases(x, Y, torch.tensor([0, 0, 1, 2, 2])), []
    monkeypatch.setattr("fl_jobs.private_steps.add_gaussian", lambda values, scale: values + scale)
    with apart(monkeypatch):
        for where in (CPU, ELSEWHERE):
            algorithm = build_algorithm(spec_of("fedavg"), "global").to(where)
            steps = PrivateSteps(1.0, 1.0, 1.0, 3)
            train_phase(algorithm, "train", cases, seed=1, words=("a", 1), private=steps)
            states.append({name: value.cpu() for name, value in algorithm.state_dict().items()})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


class MakesItsOwn(FedAvg):
    def loss(self, x, y_B):
        return super().loss(x, y_B) + (self.head.bias * torch.zeros(2)).sum()


def test_a_tensor_made_on_the_cpu_would_be_noticed(monkeypatch):
    plain = build_algorithm(spec_of("fedavg"), "global")
    x = torch.zeros(5, len(FEATURES))
    with apart(monkeypatch):
        algorithm = MakesItsOwn(plain, plain.hyper_parameters).to(ELSEWHERE)
        with pytest.raises(RuntimeError, match="to be on the same device"):
            train_phase(algorithm, "train", Cases(x, Y), seed=1, words=("a", 1))


def on_gpu(monkeypatch):
    monkeypatch.setenv(VARIABLE, "cuda")
    return site_device()


@NEEDS_GPU
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_a_gpu_repeats_a_run_to_the_last_bit(name, precision, tmp_path, monkeypatch):
    spec, where = spec_of(name, "image", rounds=2, precision=precision, **SETTINGS), on_gpu(monkeypatch)
    first, again = (play(spec, tmp_path / turn, where) for turn in ("one", "two"))
    assert first.records == again.records
    for (_, one), (_, other) in zip(first.answers, again.answers, strict=True):
        same_bits(one["a"].tensors, other["a"].tensors)


@NEEDS_GPU
@pytest.mark.parametrize("name", [name for name in NAMES if name != "fedcp"])  # its noise is the device's own
def test_a_gpu_takes_the_steps_of_the_cpu(name, tmp_path, monkeypatch):
    spec = spec_of(name, rounds=2, optimiser="sgd", **SETTINGS)
    wanted, found = play(spec, tmp_path / "cpu"), play(spec, tmp_path / "gpu", on_gpu(monkeypatch))
    for (_, one), (_, other) in zip(found.answers, wanted.answers, strict=True):
        for wire, value in one["a"].tensors.items():
            np.testing.assert_allclose(value, other["a"].tensors[wire], rtol=1e-3, atol=1e-4)
