"""Which attributes of a DICOM header name or describe a person, by the Basic Profile of PS3.15 (Table E.1-1).

The table beside this file is that of the standard's edition 2026c, reduced to tag, action and name, with the
attributes whose action removes (X), empties (Z) or replaces (D). Values are looked at, never kept.
"""

import hmac
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pydicom

from fl_jobs.data.dicom import DAMAGED_DICOM, DicomImage
from fl_jobs.errors import DataError

TABLE = Path(__file__).with_name("ps3_15_e1_1.tsv")
_MOST_DEPTH = 12
_CURVES, _OVERLAYS = 0x50, 0x60  # repeating groups 50xx, and 60xx with data or comments: X


@dataclass
class Findings:
    """Of one file: tags of the profile that have a value, private tags, and what it says of its pixels."""

    attributes: set[int] = field(default_factory=set)
    private: int = 0
    burned_in: str = ""  # YES, NO or, when the file does not say, empty


@cache
def profile() -> dict[int, tuple[str, str]]:
    """Tag → (action, name) of the attributes that have to be removed, emptied or replaced."""
    entries = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        tag, action, name = line.split("\t")
        if action != "U":  # UIDs are replaced by consistent ones; a picture has none
            entries[int(tag.replace(",", ""), 16)] = (action, name)
    return entries


def action_of(tag: int) -> tuple[str, str] | None:
    """Action and name for a tag; None when the profile keeps it."""
    group, element = tag >> 16, tag & 0xFFFF
    if group >> 8 == _CURVES:
        return "X", "Curve Data"
    if group >> 8 == _OVERLAYS and element in (0x3000, 0x4000):
        return "X", "Overlay Data" if element == 0x3000 else "Overlay Comments"
    return profile().get(tag)


def find_identifying(image: DicomImage) -> Findings:
    """What in this file's header, also inside its sequences, the profile does not let through.

    Raises DataError when the header cannot be walked through.
    """
    found = Findings()
    try:
        _walk(image.header, found, 0)
        said = str(image.header.get("BurnedInAnnotation") or "").strip().upper()
    except DAMAGED_DICOM as error:
        raise DataError(
            "not a DICOM file that can be read (%(kind)s). Export it again.",
            where=image.path.name,
            kind=type(error).__name__,
        ) from error
    found.burned_in = said if said in ("YES", "NO") else ""
    return found


def _walk(dataset: pydicom.Dataset, found: Findings, depth: int) -> None:
    if depth > _MOST_DEPTH:
        raise ValueError("sequences too deep")
    for tag in list(dataset.keys()):
        if tag.is_private:
            found.private += 1
        item: Any = dataset.get_item(tag)
        if item is not None and item.value not in (None, b"", "") and action_of(int(tag)):
            found.attributes.add(int(tag))
        if not tag.is_private and (item is None or item.VR in ("SQ", None, "UN")):
            element = dataset[tag]
            for part in element.value if element.VR == "SQ" else ():
                _walk(part, found, depth + 1)


def count_attributes(findings: list[Findings]) -> list[dict[str, Any]]:
    """For the report: every attribute found, in how many files; the most frequent first."""
    counts = Counter(tag for one in findings for tag in one.attributes)
    rows = []
    for tag, files in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        action, name = action_of(tag) or ("", "")
        rows.append(
            {"tag": f"{tag >> 16:04X},{tag & 0xFFFF:04X}", "name": name, "action": action, "files": files}
        )
    return rows


def pseudonym(key: bytes, image: DicomImage) -> str:
    """A patient's name in the copy: the same at this site always, and nowhere else. Raises DataError."""
    try:
        identity = str(image.header.get("PatientID") or "").strip()
        issuer = str(image.header.get("IssuerOfPatientID") or "").strip()
        study = str(image.header.get("StudyInstanceUID") or "").strip()
    except DAMAGED_DICOM as error:
        raise DataError("its patient cannot be read. Export it again.", where=image.path.name) from error
    if not identity and not study:
        raise DataError("it names no patient and no study. Leave it out.", where=image.path.name)
    text = f"patient\n{issuer}\n{identity}" if identity else f"study\n{study}"
    return hmac.new(key, text.encode(), sha256).hexdigest()[:16]
