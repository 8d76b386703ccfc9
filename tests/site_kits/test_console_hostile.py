"""Files that are made to harm: one sentence, at once, in bounded memory; nothing of them is registered."""

import io
import json
import os
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from site_kits.console.jobs import say
from site_kits.console.reading import result_path, run
from tests.site_kits.dicom_doubles import NEEDLES, dicom, write_dicom

CPU_S = 0.5  # the refusals themselves take milliseconds; the rest is room for a busy machine
CHILD_MIB = 450  # an image of 40 million pixels in colour, decoded, takes 120 of it


@pytest.fixture
def folder(home):
    path = home.data / "cells"
    path.mkdir()
    return path


def manifest(folder, **changes):
    facts = {"name": "cells", "kind": "tabular", "file": "cases.csv", "features": ["a"], "labels": ["x", "y"]}
    (folder / "manifest.json").write_text(json.dumps(facts | changes))


def refusal(home, action="check"):
    """The one sentence, or those of the rows."""
    began = time.process_time()
    answer = run(home, action, "cells", {})
    assert time.process_time() - began < CPU_S
    assert not list(home.checked.glob("*")) + list(home.registered.glob("*"))
    if answer["error"]:
        return say(answer["error"])
    return " ".join(say(fault) for fault in answer["faults"])


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def images(folder, data):
    (folder / "1.png").write_bytes(data)
    (folder / "cases.csv").write_text("path,label,patient\n1.png,x,p1\n1.png,y,p2\n")
    manifest(folder, kind="image", features=[], group="patient")


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "a/../../../site.json"])
def test_a_manifest_that_leads_out(home, folder, file):
    manifest(folder, file=file)
    assert "leads out of the data folder" in refusal(home)


def test_a_table_that_names_an_image_elsewhere(home, folder):
    images(folder, b"")
    (folder / "cases.csv").write_text("path,label,patient\n../../rootCA.pem,x,p1\n")
    assert "leads out of the data folder" in refusal(home)


def test_links_are_not_followed(home, folder):
    (folder / "cases.csv").symlink_to(home.root / "rootCA.pem")
    assert "is a link, which is not followed" in refusal(home, "look")
    manifest(folder)
    assert "leads out of the data folder" in refusal(home)


def test_a_folder_that_is_a_link_to_elsewhere(home):
    (home.data / "cells").symlink_to("/etc")
    assert "leads out of data/" in refusal(home, "look")


def test_an_archive(home, folder):
    with zipfile.ZipFile(folder / "cells.zip", "w") as archive:
        archive.writestr("x", "y")
    assert "is an archive, which is not opened. Unpack it" in refusal(home, "look")


def test_an_image_of_fifty_thousand_pixels_a_side(home, folder):
    images(folder, png(50_000, 50_000))
    assert "more than 40 million pixels" in refusal(home)


def test_a_table_with_nul_bytes(home, folder):
    (folder / "cases.csv").write_bytes("a,label\n1,x\n".encode("utf-16"))
    manifest(folder)
    assert "NUL bytes, as UTF-16 and programs do. Save it as CSV in UTF-8" in refusal(home)


def test_a_table_in_gb18030_is_detected(home, folder):
    (folder / "cases.csv").write_bytes("诉求,label\n噪音太大,x\n路灯坏了,y\n".encode("gb18030"))
    manifest(folder, kind="text", features=[], value="诉求")
    assert "GB18030, which Chinese Windows writes" in refusal(home)
    table = run(home, "look", "cells", {})["tables"][0]
    assert (table["encoding"], table["columns"][0]["name"]) == ("gb18030", "诉求")


def test_a_table_that_is_no_text_at_all(home, folder):
    (folder / "cases.csv").write_bytes(b"a,label\n\xff\xff\xff,x\n")
    manifest(folder)
    assert "neither UTF-8 nor GB18030" in refusal(home)


def test_every_error_is_named_with_its_row_and_the_rest_counted(home, folder):
    rows = [f"{'no' if n < 70 else n},{'x' if n % 2 else 'y'}" for n in range(100)]
    (folder / "cases.csv").write_text("\n".join(["a,label", *rows]) + "\n")
    manifest(folder)
    answer = run(home, "check", "cells", {})
    assert (answer["count"], len(answer["faults"])) == (70, 50)
    assert (answer["faults"][1]["row"], answer["faults"][1]["column"]) == (3, "a")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data.update({"Rows": 60_000, "Columns": 60_000}), "more than 40 million pixels"),
        (lambda data: data.update({"NumberOfFrames": 2**30}), "more than 160 MiB"),
        (lambda data: data.update({"NumberOfFrames": 3}), "it holds 3 frames"),
        (lambda data: data.update({"BitsAllocated": 64}), "no image of 8 or 16 bits"),
    ],
)
def test_a_dicom_header_that_asks_for_too_much(home, folder, damage, words):
    data = dicom(1)
    damage(data)
    write_dicom(folder / "1.dcm", data)
    assert words in refusal(home, "report")


def test_a_deflated_dicom_file_is_refused_before_it_is_unpacked(home, folder):
    path = write_dicom(folder / "1.dcm", dicom(1))
    bomb = zlib.compress(bytes(50 * 2**20), 9)
    syntax, deflated = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    head = path.read_bytes()[:2048]
    start = head.index(syntax)
    path.write_bytes(
        head[: start - 2] + struct.pack("<H", len(deflated)) + deflated + head[start + len(syntax) :] + bomb
    )
    assert "packed in a way that is not read here" in refusal(home, "report")


def test_names_in_a_dicom_header_are_counted_and_never_shown(home, folder):
    write_dicom(folder / "x" / "1.dcm", dicom(1))
    answer = run(home, "report", "cells", {})
    found = {line["name"] for line in answer["attributes"]}
    assert {"Patient's Name", "Patient ID", "Requesting Physician", "Patient's Birth Date"} <= found
    assert answer["private"] == 1
    assert not any(needle in json.dumps(answer) for needle in NEEDLES)


@pytest.mark.parametrize("part", range(40, 600, 37))
def test_a_cut_or_altered_dicom_file_is_a_sentence(home, folder, part):
    path = write_dicom(folder / "1.dcm", dicom(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:part])
    assert refusal(home, "report").strip()
    path.write_bytes(whole[:part] + b"\xff\xff\xff\xff" + whole[part + 4 :])
    run(home, "report", "cells", {})  # found usable or refused, but never a traceback


def giant_header(folder: Path) -> None:
    data = dicom(1)
    data.private_block(0x0011, "ACME", create=True).add_new(1, "OB", bytes(200 * 2**20))
    write_dicom(folder / "1.dcm", data)


def huge_table(folder: Path) -> None:
    manifest(folder)
    with (folder / "cases.csv").open("wb") as file:
        file.write(b"a,label\n")
        os.truncate(file.name, 2 * 2**30)


def png_bomb(folder: Path) -> None:
    compressor = zlib.compressobj(9)
    row = b"\0" + bytes(3 * 6300)
    rows = b"".join(compressor.compress(row) for _row in range(6300)) + compressor.flush()
    images(folder, png(6300, 6300, rows)[:-2000])  # 40 million pixels in 120 kB, and cut off


def workbook_bomb(folder: Path) -> None:
    manifest(folder, file="cases.xlsx")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", bytes(300 * 2**20))
    (folder / "cases.xlsx").write_bytes(packed.getvalue())


@pytest.mark.parametrize(
    ("make", "action", "words"),
    [
        (giant_header, "report", "a giant header"),
        (huge_table, "check", "larger than 512 MiB"),
        (huge_table, "look", "larger than 512 MiB"),
        (png_bomb, "check", "cannot be read"),
        (workbook_bomb, "check", "unpacks to more than 256 MiB"),
    ],
)
def test_what_is_made_to_fill_the_memory_does_not(home, folder, make, action, words):
    """In the process that reads, as the console starts it."""
    make(folder)
    command = [sys.executable, "-m", "site_kits.console.reading", action, "--home", str(home.root)]
    done = subprocess.run([*command, "--folder", "cells"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(result_path(home, "cells", action).read_text())
    errors = [answer["error"], *answer.get("faults", []), *(t["error"] for t in answer.get("tables", []))]
    assert words in " ".join(say(error) for error in errors if error)
    assert answer["peak_mib"] < CHILD_MIB
