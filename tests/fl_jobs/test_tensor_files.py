import hashlib

import numpy as np
import pytest
from safetensors.numpy import save

from fl_jobs.errors import ModelFileError
from fl_jobs.tensor_files import decode_tensors, encode_tensors, read_tensors, shared_part, write_tensors
from tests.fl_jobs.sites import make_spec

TENSORS = {"b": np.ones(3, np.float32), "a": np.arange(4, dtype=np.float32).reshape(2, 2)}


def test_a_file_comes_back_with_its_digest(tmp_path):
    sha256 = write_tensors(tmp_path / "m.safetensors", TENSORS)
    assert sha256 == hashlib.sha256((tmp_path / "m.safetensors").read_bytes()).hexdigest()
    back = read_tensors(tmp_path / "m.safetensors", sha256=sha256)
    assert back.keys() == TENSORS.keys()
    assert np.array_equal(back["a"], TENSORS["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_the_same_tensors_give_the_same_bytes_in_any_order():
    assert encode_tensors(TENSORS) == encode_tensors(dict(reversed(TENSORS.items())))
    column_order = {**TENSORS, "a": np.asfortranarray(TENSORS["a"])}
    assert encode_tensors(TENSORS) == encode_tensors(column_order)


def test_empty_and_scalar_parts_survive():
    tensors = {"s": np.float32(2.5) * np.ones((), np.float32)}
    assert decode_tensors(encode_tensors(tensors), source="x")["s"].shape == ()
    assert decode_tensors(encode_tensors({}), source="x") == {}


def test_an_altered_file_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    sha256 = write_tensors(path, TENSORS)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="was altered"):
        read_tensors(path, sha256=sha256)


@pytest.mark.parametrize("data", [b"", b"pickle?", b"\xff" * 64, save({"i": np.ones(2, np.int64)})])
def test_anything_but_float_tensors_is_refused(tmp_path, data):
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        read_tensors(path)


def test_size_is_judged_before_reading(tmp_path):
    write_tensors(tmp_path / "m.safetensors", TENSORS)
    with pytest.raises(ModelFileError, match="are allowed"):
        read_tensors(tmp_path / "m.safetensors", max_bytes=10)
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_tensors(tmp_path / "missing.safetensors")


def test_the_shared_part_holds_the_tensors_of_every_round_only():
    spec = make_spec("dbe")
    aggregate = {t.wire_name: np.zeros(t.shape, np.float32) for t in spec.tensors}
    part = shared_part(spec, "personal", aggregate)
    assert "feature_mean" not in part
    assert "head.weight" in part
    assert shared_part(spec, "local", aggregate) == {}
    with pytest.raises(ModelFileError, match="lacks"):
        shared_part(spec, "global", {})
