"""What people send: rows, CSV files, images, texts, and what is refused with which sentence."""

import io
import struct
import time
import zlib

import pytest
from PIL import Image

from tests.site_kits.inference_doubles import pieces


def png(width=8, height=8):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that claims a size without holding the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def noise():
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"a": 1}, "lacks b"),
        ({"a": 1, "b": None}, "lacks b"),
        ({"a": 1, "b": 2, "c": 3}, "does not know: c"),
        ({"a": 1, "b": "high"}, "b must be a number"),
        ({"a": 1, "b": True}, "b must be a number"),
        ([1, 2], "not an object"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(tabular, record, words):
    answer = tabular.ask_rows(record)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_nan_and_infinity_are_refused_by_name(tabular):
    for value in ("NaN", "Infinity", "1e300", "9" * 400):
        raw = f'{{"records": [{{"a": 1, "b": {value}}}]}}'
        answer = tabular.ask(content=raw, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert "b must be a number" in answer.json()["detail"]


def test_a_csv_file_is_answered_row_by_row(tabular):
    answer = tabular.ask(files={"file": ("cases.csv", b"\xef\xbb\xbfa,b\n1,2\n3,4\n")})
    assert len(answer.json()["predictions"]) == 2
    assert tabular.double.asked == [[{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,\n", "Record 1 lacks b"),
        (b"a,b\n1,nan\n", "b must be a number"),
        (b"a,b\n1,2,3\n", "more cells"),
        (b"a,b, a\n1,2,3\n", "names a more than once"),
        (b"a,b\n", "no rows"),
        (b"\xff\xfe\x00", "not CSV in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_named(tabular, content, words):
    answer = tabular.ask(files={"file": ("cases.csv", content)})
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_an_image_is_answered(image):
    assert image.ask(files={"file": ("cell.png", png())}).status_code == 200
    assert image.double.asked[0][0].size == (8, 8)


def test_a_huge_image_is_refused_by_its_header_at_once(image):
    begin = time.monotonic()
    answer = image.ask(files={"file": ("huge.png", png_header(50_000, 50_000))})
    assert answer.status_code == 422
    assert "40 million pixels" in answer.json()["detail"]
    assert time.monotonic() - begin < 1


def test_images_over_the_limit_together_are_refused(image):
    several = [("file", (f"{n}.png", png_header(5000, 3000))) for n in range(3)]
    assert "together" in image.ask(files=several).json()["detail"]


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(20), b"not an image", noise()[:900]])
def test_a_file_that_is_no_image_is_refused(image, content):
    answer = image.ask(files={"file": ("x.png", content)})
    assert answer.status_code == 422


def test_a_damaged_tiff_is_refused_whatever_its_decoder_raises(image):
    buffer = io.BytesIO()
    Image.new("L", (40, 30)).save(buffer, "TIFF")
    damaged = bytearray(buffer.getvalue())
    offsets = damaged.index(struct.pack("<HHI", 273, 4, 1))  # tag StripOffsets
    damaged[offsets + 2] = 11  # said to be a float: Pillow raises TypeError
    answer = image.ask(files={"file": ("x.tiff", bytes(damaged))})
    assert answer.status_code == 422


def test_a_text_is_answered_and_a_long_one_is_refused(text):
    assert text.ask_rows("热线咨询").status_code == 200
    answer = text.ask_rows("x" * 21)
    assert answer.status_code == 422
    assert "at most 20" in answer.json()["detail"]


@pytest.mark.parametrize("length", [None, "stated"])
def test_a_body_over_ten_mebibytes_is_refused(tabular, length):
    data = b"x" * (11 * 2**20)
    content = data if length else pieces(data)
    answer = tabular.ask(content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "10 MiB" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "application/json", 422),
        (b"x", "application/x-pickle", 415),
        (b"x", "multipart/form-data", 400),
        (b"--b\r\n\r\n", "multipart/form-data; boundary=b", 400),
    ],
)
def test_a_malformed_body_is_refused(tabular, content, kind, status):
    assert tabular.ask(content=content, headers={"Content-Type": kind}).status_code == status
