"""A folder of DICOM files: the de-identification report, and the copy that training reads.

Runs in the reading process. Training never reads a DICOM file: what it gets is pixels, a label and a
pseudonym, in a folder of its own.
"""

import csv
import io
import json
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fl_jobs.data.deidentify import Findings, count_attributes, find_identifying, pseudonym
from fl_jobs.data.dicom import DicomImage, read_dicom, to_picture
from fl_jobs.data.manifest import MANIFEST
from fl_jobs.data.tables import csv_lines, decode_text, read_table_file
from fl_jobs.errors import DataError
from fl_jobs.tensor_files import write_bytes
from site_kits.console.looking import IMAGE_ENDINGS, is_dicom, walk
from site_kits.site_home import SiteHome

MAX_FILES = 20_000
FILES_SHOWN = 50
COPY_MARK = ".made-from-dicom.json"
LABELS = "labels.csv"


def report(home: SiteHome, folder: str, _options: dict[str, Any]) -> dict[str, Any]:
    """What the headers say of persons: per attribute in how many files, per file how many; no value."""
    root = home.data / folder
    findings, files, faults = [], [], []
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        try:
            found = find_identifying(read_dicom(path, where=name))
        except DataError as error:
            faults.append({"sentence": error.sentence, "values": error.values, "where": name})
            continue
        findings.append(found)
        files.append(_line(name, found))
    return {
        "files": len(findings), "attributes": count_attributes(findings), "faults": faults[:FILES_SHOWN],
        "unreadable": len(faults), "private": sum(one.private > 0 for one in findings),
        "burned_in": sum(one.burned_in == "YES" for one in findings),
        "unsaid": sum(not one.burned_in for one in findings),
        "identified": sum(bool(one.attributes or one.private) for one in findings),
        "lines": sorted(files, key=lambda line: -line["attributes"])[:FILES_SHOWN],
    }  # fmt: skip


def _line(name: str, found: Findings) -> dict[str, Any]:
    return {
        "file": name, "attributes": len(found.attributes), "private": found.private,
        "burned_in": found.burned_in,
    }  # fmt: skip


def convert(home: SiteHome, folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make ``data/<folder>-pixels``: PNG files, labels and pseudonyms. Whole or not at all.

    Files that say that text is burned into their pixels, and those that cannot be read, are left out.
    """
    if not options.get("acknowledged"):
        raise DataError("Read the report and look at the images first, then confirm that you did.")
    root, name = home.data / folder, copy_name(folder)
    target, making = home.data / name, home.data / f".{name}.{secrets.token_hex(4)}"
    if target.exists() and not (target / COPY_MARK).exists():
        raise DataError("data/%(name)s exists and is no copy made here. Rename it first.", name=name)
    making.mkdir()
    try:
        made = _write_copy(root, making, _labels(root), _key(home))
        facts = {"made_at": time.time(), "acknowledged": True} | made
        write_bytes(making / COPY_MARK, json.dumps(facts).encode())
        labels = sorted(made["labels"])
        manifest = {
            "name": name, "kind": "image", "file": LABELS, "value": "path", "label": "label",
            "group": "patient", "labels": labels,
        }  # fmt: skip
        write_bytes(making / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1).encode())
        if target.exists():
            shutil.rmtree(target)
        making.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return made | {"copy": name}


def copy_name(folder: str) -> str:
    """The name of the copy's data set."""
    return f"{folder[:55].rstrip('-')}-pixels"


def _write_copy(root: Path, making: Path, labels: dict[str, str] | None, key: bytes) -> dict[str, Any]:
    lines, patients = [("path", "label", "patient")], set()
    for number, (path, image, label) in enumerate(_usable(root, labels), start=1):
        try:
            patient = pseudonym(key, image)
            picture = to_picture(image, where=path.name)
        except DataError:
            continue
        file = f"{number:06d}.png"
        picture.save(making / file, format="PNG")
        patients.add(patient)
        lines.append((file, label, patient))
    if len(lines) == 1:
        raise DataError("None of the files can be used. The report says why.")
    if len({label for _file, label, _patient in lines[1:]}) < 2:
        raise DataError("The files have one label only. A model needs two labels or more.")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_bytes(making / LABELS, text.getvalue().encode())
    total = sum(1 for _path in _files(root))
    return {
        "written": len(lines) - 1, "left_out": total - (len(lines) - 1), "patients": len(patients),
        "labels": sorted({label for _file, label, _patient in lines[1:]}),
    }  # fmt: skip


def _usable(root: Path, labels: dict[str, str] | None) -> Iterator[tuple[Path, DicomImage, str]]:
    """The images that may be copied, each with its label."""
    for path in _files(root):
        place = path.relative_to(root)
        label = place.parts[0] if labels is None and len(place.parts) > 1 else ""
        label = label if labels is None else labels.get(place.as_posix(), "")
        if not label:
            continue
        try:
            image = read_dicom(path, where=path.name)
            if find_identifying(image).burned_in == "YES":
                continue
        except DataError:
            continue
        yield path, image, label


def _labels(root: Path) -> dict[str, str] | None:
    """File → label of labels.csv; None without one: then the folder's name is the label."""
    path = root / LABELS
    if not path.is_file():
        return None
    lines = csv_lines(LABELS, decode_text(LABELS, read_table_file(path), "utf-8"))
    _number, header = next(lines, (0, []))
    if "path" not in header or "label" not in header:
        raise DataError("labels.csv needs the columns “path” and “label”. Add them.")
    at, of = header.index("path"), header.index("label")
    return {cells[at].strip(): cells[of].strip() for _n, cells in lines if len(cells) == len(header)}


def _files(root: Path) -> Iterator[Path]:
    for count, path in enumerate((path for path in walk(root) if is_dicom(path)), start=1):
        if count > MAX_FILES:
            raise DataError("The folder has more than %(most)s DICOM files. Divide it.", most=MAX_FILES)
        yield path


def _key(home: SiteHome) -> bytes:
    """The secret behind the pseudonyms; it stays at the site."""
    path = home.pseudonym_key
    if not path.exists():
        write_bytes(path, secrets.token_bytes(32), mode=0o600)
    return path.read_bytes()


def list_images(home: SiteHome, folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Write labels.csv and the manifest of a folder whose images lie in one folder per label.

    ``options["patient"]`` is what ends the patient's part of a file's name; empty: each image is another's.
    """
    root, ending = home.data / folder, str(options.get("patient") or "")[:1]
    lines = [("path", "label", "patient")]
    for path in walk(root):
        place = path.relative_to(root)
        if path.suffix.lower() in IMAGE_ENDINGS and len(place.parts) > 1:
            patient = path.stem.split(ending)[0] if ending else place.as_posix()
            lines.append((place.as_posix(), place.parts[0], patient or place.as_posix()))
    labels = sorted({label for _path, label, _patient in lines[1:]})
    if len(labels) < 2:
        raise DataError("The images lie in fewer than two folders. Make one folder per label.")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_bytes(root / LABELS, text.getvalue().encode())
    manifest = {
        "name": folder, "kind": "image", "file": LABELS, "value": "path", "label": "label",
        "group": "patient", "labels": labels,
    }  # fmt: skip
    write_bytes(root / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1).encode())
    return {"images": len(lines) - 1, "labels": labels}
