"""Reading partitions and folders of sites, rubbish included."""

import json

import numpy as np
import pytest

from fl_jobs.data.texts import encode_texts
from fl_jobs.errors import DataError, SpecError
from fl_jobs.simulate import PartitionFolder, SiteFolders, open_source
from tests.fl_jobs.partitions import write_partition
from tests.fl_jobs.sites import image_home, tabular_homes


def overwrite(folder, **changes):
    """Replace arrays of the second site's file; None leaves one out."""
    path = folder / "client_01.npz"
    with np.load(path) as arrays:
        held = dict(arrays) | changes
    np.savez(path, **{name: value for name, value in held.items() if value is not None})


def test_a_partition_tells_its_sites_and_task(tmp_path):
    source = PartitionFolder(write_partition(tmp_path / "p"))
    assert source.sites == ("client-00", "client-01", "client-02")
    assert (source.task.kind, source.task.channels, source.task.height) == ("image", 1, 8)
    assert source.task.labels == ("0", "1", "2")
    parts = source.read("client-01", encode_texts)
    assert (len(parts.train.y), len(parts.validation.y), len(parts.test.y)) == (22, 0, 9)
    assert parts.train.x.dtype == np.float32


def test_the_validation_cut_follows_from_the_seed_and_loses_no_case(tmp_path):
    folder = write_partition(tmp_path / "p")
    whole = PartitionFolder(folder).read("client-02", encode_texts)
    cut = PartitionFolder(folder, validation=0.25, seed=1).read("client-02", encode_texts)
    again = PartitionFolder(folder, validation=0.25, seed=1).read("client-02", encode_texts)
    other = PartitionFolder(folder, validation=0.25, seed=2).read("client-02", encode_texts)
    assert (len(cut.train.y), len(cut.validation.y)) == (31, 10)
    assert np.array_equal(cut.validation.x, again.validation.x)
    assert not np.array_equal(cut.validation.x, other.validation.x)
    both = np.concatenate([cut.train.x, cut.validation.x]).reshape(41, -1)
    assert np.array_equal(np.sort(both, axis=0), np.sort(whole.train.x.reshape(41, -1), axis=0))
    assert np.array_equal(cut.test.x, whole.test.x)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"y_train": None}, "lacks the array “y_train”"),
        ({"y_train": np.arange(5)}, "22 inputs and 5 labels"),
        ({"y_train": np.zeros(22)}, "not a list of whole numbers"),
        ({"y_train": np.full(22, -1)}, "between 0 and 199"),
        ({"y_train": np.full(22, 10**6)}, "between 0 and 199"),
        ({"y_test": np.full(9, 10**12)}, "test: labels must lie between 0 and 199"),
        ({"y_test": np.zeros(0, dtype=int), "x_test": np.zeros((0, 1, 8, 8))}, "test: 0 inputs"),
        ({"x_train": np.full((22, 1, 8, 8), np.nan, dtype=np.float32)}, "not a number of usable size"),
        ({"x_train": np.full((22, 1, 8, 8), 1e300)}, "not a number of usable size"),
        ({"x_train": np.float64(3)}, "neither images nor a table"),
        ({"x_train": np.zeros((22, 1, 9, 8), dtype=np.float32)}, "different shapes"),
        ({"x_train": np.full((22, 1, 8, 8), "a")}, "neither images nor a table"),
        ({"x_train": np.array([{"a": 1}] * 22, dtype=object)}, "without pickles"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, changes, sentence):
    folder = write_partition(tmp_path / "p")
    overwrite(folder, **changes)
    with pytest.raises(DataError, match=sentence):
        PartitionFolder(folder)


def test_a_file_damaged_inside_or_gone_is_named(tmp_path):
    path = write_partition(tmp_path / "p") / "client_01.npz"
    with np.load(path) as arrays:
        np.savez_compressed(path, **dict(arrays))
    whole = path.read_bytes()
    path.write_bytes(whole[:90] + b"\xff" * 40 + whole[130:])
    with pytest.raises(DataError, match=r"client_01\.npz cannot be read"):
        PartitionFolder(path.parent)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(DataError, match=r"client_01\.npz cannot be read"):
        PartitionFolder(path.parent)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan"), float("inf")])
def test_a_share_for_validation_that_is_none_is_refused(tmp_path, share):
    with pytest.raises(SpecError, match="choose one from 0 to below 1"):
        PartitionFolder(write_partition(tmp_path / "p"), validation=share)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"PK\x03\x04rubbish"])
def test_rubbish_in_place_of_a_file_is_named(tmp_path, data):
    folder = write_partition(tmp_path / "p")
    (folder / "client_01.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"client_01\.npz cannot be read"):
        PartitionFolder(folder)


def test_images_of_a_size_the_catalog_has_not_are_refused(tmp_path):
    with pytest.raises(DataError, match="do not fit"):
        PartitionFolder(write_partition(tmp_path / "p", shape=(5, 8, 8)))


def test_a_partition_without_its_description_or_sites_is_refused(tmp_path):
    folder = write_partition(tmp_path / "p")
    for text in ("{", "[" * 100_000):
        (folder / "meta.json").write_text(text)
        with pytest.raises(DataError, match=r"meta\.json is missing or not JSON"):
            open_source(folder, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="Name a folder with sites"):
        open_source(tmp_path / "empty", tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        open_source(tmp_path / "nowhere", tmp_path)


def test_folders_of_sites_are_registered_elsewhere(tmp_path):
    tabular_homes(tmp_path / "sites")
    for home in (tmp_path / "sites").iterdir():
        (home / "registered" / "cases.json").unlink()
    source = open_source(tmp_path / "sites", tmp_path / "scratch")
    assert isinstance(source, SiteFolders)
    assert (source.sites, source.task.kind) == (("a", "b", "c"), "tabular")
    assert len(source.read("b", encode_texts).test.y) > 0
    assert not list((tmp_path / "sites").glob("*/registered/*"))


def test_images_come_in_the_size_asked_for(tmp_path):
    image_home(tmp_path / "sites" / "a")
    source = SiteFolders(tmp_path / "sites", tmp_path / "scratch", size=12)
    assert source.read("a", encode_texts).train.x.shape[1:] == (3, 12, 12)


def test_sites_with_other_columns_or_two_data_sets_are_refused(tmp_path):
    homes = tabular_homes(tmp_path / "sites")
    manifest = homes["b"] / "data" / "cases" / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {"features": told["features"][:3]}))
    with pytest.raises(DataError, match="Site b has other columns"):
        SiteFolders(tmp_path / "sites", tmp_path / "scratch")
    second = homes["a"] / "data" / "more"
    second.mkdir()
    (second / "manifest.json").write_text(json.dumps(told | {"name": "more"}))
    with pytest.raises(DataError, match="Say which with --dataset"):
        SiteFolders(tmp_path / "sites", tmp_path / "scratch")


def test_a_refusal_says_whose_file_it_is(tmp_path):
    homes = tabular_homes(tmp_path / "sites")
    table = homes["b"] / "data" / "cases" / "cases.csv"
    table.write_text(table.read_text().replace("benign", "unknown", 1))
    with pytest.raises(DataError, match=r"^Site b: cases\.csv, row \d+"):
        SiteFolders(tmp_path / "sites", tmp_path / "scratch")


def test_a_site_without_rights_is_named_and_not_left_out(tmp_path, monkeypatch):
    homes = tabular_homes(tmp_path / "sites")
    closed = homes["b"] / "data"
    monkeypatch.setattr("os.access", lambda path, mode: path != closed)
    with pytest.raises(DataError, match="b/data cannot be read"):
        SiteFolders(tmp_path / "sites", tmp_path / "scratch")


def test_a_manifest_nested_without_end_is_refused(tmp_path):
    homes = tabular_homes(tmp_path / "sites")
    (homes["b"] / "data" / "cases" / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not valid JSON"):
        SiteFolders(tmp_path / "sites", tmp_path / "scratch")
