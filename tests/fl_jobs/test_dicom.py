"""From DICOM to pictures: grey values, what a header says of persons, pseudonyms."""

import csv
import json

import numpy as np
import pytest
from pydicom.uid import RLELossless

from fl_jobs.data.deidentify import action_of, find_identifying, profile, pseudonym
from fl_jobs.data.dicom import read_dicom, to_picture
from fl_jobs.data.register import small_labels
from fl_jobs.errors import DataError
from site_kits.console import dicom as console
from site_kits.site_home import SiteHome
from tests.site_kits.dicom_doubles import NEEDLES, SIZE, dicom, write_dicom, write_dicom_folder


def picture(folder, data):
    path = write_dicom(folder / "1.dcm", data)
    return np.asarray(to_picture(read_dicom(path, where="1"), where="1"))


def ramp(**changes):
    """4096 grey values, one a pixel."""
    values = np.arange(SIZE * SIZE, dtype="<u2").reshape(SIZE, SIZE)
    return dicom(1, PixelData=values.tobytes(), **changes)


def test_without_a_window_the_smallest_is_black_and_the_largest_white(tmp_path):
    found = picture(tmp_path, ramp())
    assert (found.shape, found.dtype, found.min(), found.max()) == ((SIZE, SIZE), np.uint8, 0, 255)
    assert (np.diff(found.ravel().astype(int)) >= 0).all()


def test_a_window_is_applied_after_slope_and_intercept(tmp_path):
    """PS3.3 C.11.2.1.2: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, by hand for three values."""
    data = ramp(
        RescaleSlope="2", RescaleIntercept="-1000", WindowCenter=["100", "7"], WindowWidth=["401", "9"]
    )
    found = picture(tmp_path, data).ravel()
    for stored in (300, 500, 550, 700):
        x = 2 * stored - 1000
        expected = np.clip(((x - 99.5) / 400 + 0.5) * 255, 0, 255)
        assert abs(int(found[stored]) - expected) <= 0.5 + 1e-3


def test_monochrome1_is_turned_round(tmp_path):
    light = picture(tmp_path, ramp())
    dark = picture(tmp_path, ramp(PhotometricInterpretation="MONOCHROME1"))
    assert np.abs(light.astype(int) + dark - 255).max() <= 1


def test_rle_gives_the_same_picture(tmp_path):
    plain, packed = dicom(3), dicom(3)
    packed.compress(RLELossless)
    assert (picture(tmp_path, plain) == picture(tmp_path, packed)).all()


def test_colour_stays_colour(tmp_path):
    values = np.random.default_rng(1).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    data = dicom(1, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
                 BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=values.tobytes())  # fmt: skip
    assert (picture(tmp_path, data) == values).all()


def test_pixels_that_are_not_all_there_are_refused(tmp_path):
    path = write_dicom(tmp_path / "1.dcm", dicom(1))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="pixels cannot be read"):
        to_picture(read_dicom(path, where="1"), where="1")


def test_the_profile_is_that_of_the_standard():
    assert len(profile()) > 550
    assert action_of(0x00100010) == ("Z", "Patient's Name")
    assert action_of(0x00101010) == ("X", "Patient's Age")
    assert action_of(0x60023000) == ("X", "Overlay Data")
    assert action_of(0x00280010) is None  # Rows


def test_names_inside_sequences_and_in_private_tags_are_found(tmp_path):
    found = find_identifying(read_dicom(write_dicom(tmp_path / "1.dcm", dicom(1)), where="1"))
    assert 0x00321032 in found.attributes  # Requesting Physician, inside Request Attributes Sequence
    assert (found.private, found.burned_in) == (2, "")


def test_a_pseudonym_is_a_patient_s_at_this_site_only(tmp_path):
    images = [read_dicom(write_dicom(tmp_path / f"{n}.dcm", dicom(n)), where="x") for n in (2, 3, 4)]
    here = [pseudonym(b"k" * 32, image) for image in images]
    assert here[0] == here[1] != here[2]
    assert pseudonym(b"o" * 32, images[0]) != here[0]


def test_the_copy_holds_pixels_labels_and_pseudonyms_and_nothing_else(tmp_path):
    home = SiteHome(tmp_path)
    write_dicom_folder(home.data / "chest", 24)
    with pytest.raises(DataError, match="Read the report"):
        console.convert(home, "chest", {})
    made = console.convert(home, "chest", {"acknowledged": True})
    assert (made["written"], made["left_out"], made["patients"]) == (23, 1, 12)  # one says it has text in it
    copy = home.data / "chest-pixels"
    with (copy / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"normal", "opacity"}
    for path in copy.iterdir():
        assert not any(needle.encode() in path.read_bytes() for needle in NEEDLES), path.name
    assert json.loads((copy / console.COPY_MARK).read_text())["acknowledged"] is True
    assert [path.name for path in home.data.iterdir() if path.name.startswith(".")] == []
    again = console.convert(home, "chest", {"acknowledged": True})
    assert again == made


def test_a_folder_that_was_not_made_here_is_not_overwritten(tmp_path):
    home = SiteHome(tmp_path)
    write_dicom_folder(home.data / "chest", 6)
    (home.data / "chest-pixels").mkdir()
    (home.data / "chest-pixels" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="is no copy made here"):
        console.convert(home, "chest", {"acknowledged": True})
    assert (home.data / "chest-pixels" / "mine.txt").exists()


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ({"a": 50, "b": 40}, set()),
        ({"a": 50, "b": 9}, {"a", "b"}),  # 59 rows - 50 would tell
        ({"a": 50, "b": 9, "c": 30}, {"b", "c"}),
        ({"a": 50, "b": 6, "c": 7, "d": 30}, {"b", "c"}),
        ({"a": 50, "b": 2, "c": 3, "d": 30}, {"b", "c", "d"}),  # five patients together are still few
        ({"a": 50, "b": 0}, set()),
    ],
)
def test_which_counts_stay_at_the_site(counts, hidden):
    assert set(small_labels(counts)) == hidden
