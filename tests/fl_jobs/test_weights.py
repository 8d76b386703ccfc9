"""Files of trained weights: which are taken, which are refused, and who needs them."""

import io
import os
import subprocess
import sys

import pytest
import torch

import fl_jobs.weights as weights_module
from fl_jobs.algorithms.build import build_algorithm, describe_tensors, initial_sha256
from fl_jobs.catalog import validate_model
from fl_jobs.errors import ModelFileError, SpecError
from fl_jobs.models.build import build_model
from fl_jobs.weights import digest_path, read_weights
from tests.fl_jobs.model_cases import (
    fill_random,
    inputs,
    make_run,
    make_task,
    write_bytes,
    write_checkpoint,
    write_weights,
)

GREY, COLOUR = make_task("image", 1, 16, 16), make_task("image", 3, 16, 16)


@pytest.fixture(scope="module")
def source():
    """The tensors of a ResNet-18 for three colours, without its last layer, as torchvision names them."""
    network = build_model(make_run("image_resnet18", COLOUR, tensors=False, norm="batch", seed=11)).base
    return {key: value for key, value in fill_random(network).items() if not key.startswith("fc.")}


def run(folder, tensors, task=COLOUR, **arguments):
    return make_run(
        "image_resnet18", task, tensors=False, weights=write_weights(folder, tensors), **arguments
    )


def refused(spec, folder, error, words):
    with pytest.raises(error, match=words) as caught:
        build_model(spec, folder)
    assert str(folder) not in str(caught.value) or error is ModelFileError  # a SpecError reaches the portal


@pytest.mark.parametrize("norm", ["group", "frozen", "batch"])
def test_a_good_file_is_loaded_whole_but_for_the_last_layer(tmp_path, source, norm):
    extra = {"fc.weight": torch.ones(9, 512), "fc.bias": torch.ones(9)}
    spec = run(tmp_path, source | extra, norm=norm)
    model = build_model(spec, tmp_path)
    for name, value in model.base.state_dict().items():
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, source[name])
    assert torch.isfinite(model.eval()(inputs(COLOUR))).all()


def test_half_precision_is_read_and_a_stem_for_colours_serves_grey_images(tmp_path, source):
    half = {key: value.half() if value.is_floating_point() else value for key, value in source.items()}
    model = build_model(run(tmp_path, half, GREY), tmp_path)
    stem = model.base.conv1.weight
    assert stem.dtype == torch.float32
    assert torch.allclose(stem, source["conv1.weight"].half().float().sum(dim=1, keepdim=True))


def test_all_sites_start_alike_and_the_list_of_tensors_needs_no_file(tmp_path, source):
    spec = run(tmp_path / "a", source)
    run(tmp_path / "b", source)
    digests = {initial_sha256(spec, tmp_path / site) for site in "ab"}
    plain = make_run("image_resnet18", COLOUR, tensors=False)
    assert len(digests | {initial_sha256(plain)}) == 2
    assert describe_tensors(spec) == describe_tensors(plain)


def test_nobody_trains_from_random_numbers_by_mistake(tmp_path, source):
    spec = run(tmp_path, source)
    refused(spec, None, SpecError, "Name the folder")
    with pytest.raises(SpecError, match="Name the folder"):
        build_algorithm(spec, "global")
    refused(spec, tmp_path / "empty", SpecError, "A site lacks the trained weights .* made for a test")


def test_a_wrong_digest_is_refused(tmp_path, source):
    spec = run(tmp_path, source)
    path = next(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(spec, tmp_path, ModelFileError, "was altered")


def test_a_truncated_file_is_refused_by_digest_and_by_form(tmp_path, source):
    spec = run(tmp_path, source)
    path = next(tmp_path.iterdir())
    cut = path.read_bytes()[:-100]
    path.write_bytes(cut)
    refused(spec, tmp_path, ModelFileError, "was altered")
    short = make_run("image_resnet18", COLOUR, tensors=False, weights=write_bytes(tmp_path, cut))
    refused(short, tmp_path, ModelFileError, "not a readable safetensors file")


def test_a_pickle_is_never_read(tmp_path, source):
    buffer = io.BytesIO()
    torch.save(source, buffer)
    spec = make_run("image_resnet18", COLOUR, tensors=False, weights=write_bytes(tmp_path, buffer.getvalue()))
    refused(spec, tmp_path, ModelFileError, "torch.save are never read")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bn1.weight": None}, "lack “bn1.weight”"),
        ({"bn1.running_var": None, "bn1.running_mean": None, "bn1.bias": None}, "and 1 more"),
        ({"layer9.weight": torch.ones(2)}, "have “layer9.weight”, which it does not know"),
        ({"bn1.weight": torch.ones(65)}, "has shape \\(65,\\), not \\(64,\\)"),
        ({"bn1.weight": torch.full((64,), float("nan"))}, "not finite in “bn1.weight”"),
        ({"conv1.weight": torch.ones(64, 2, 7, 7)}, "“conv1.weight” has shape"),
    ],
)
def test_a_file_that_does_not_fit_names_the_tensor(tmp_path, source, change, words):
    tensors = {key: value for key, value in (source | change).items() if value is not None}
    refused(run(tmp_path, tensors), tmp_path, SpecError, words)


def test_a_file_too_large_is_not_read(tmp_path, source, monkeypatch):
    spec = run(tmp_path, source)
    monkeypatch.setattr(weights_module, "MAX_WEIGHTS_BYTES", 1000)
    monkeypatch.setattr(weights_module.Path, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(ModelFileError, match="1000 are allowed"):
        read_weights(tmp_path, spec.model.arguments["weights"])


def test_a_digest_cannot_lead_out_of_the_folder():
    with pytest.raises(SpecError, match="64 digits"):
        validate_model("image_resnet18", {"weights": "../../etc/passwd"}, "image")


def test_the_program_prints_what_a_specification_takes(tmp_path):
    told = write_checkpoint(tmp_path)
    path = tmp_path / told.split()[0]
    done = subprocess.run(
        [sys.executable, "-m", "fl_jobs.weights", str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{digest_path(path)}  {path.name}\n"
    missing = subprocess.run(
        [sys.executable, "-m", "fl_jobs.weights", str(tmp_path / "none")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert missing.returncode == 2
    assert "cannot be read" in missing.stderr


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in ((tmp_path / "pipe", "is not a file"), (tmp_path / ("a" * 300), "cannot be read")):
        with pytest.raises(ModelFileError, match=words):
            digest_path(path)
