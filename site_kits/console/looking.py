"""What lies in a data folder: tables with their columns, images, DICOM files, and what is not accepted.

Runs in the reading process. Links are never followed.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from fl_jobs.data.manifest import MAX_TABLE_BYTES
from fl_jobs.data.tables import csv_lines, decode_text, is_gb18030, read_table_file
from fl_jobs.data.workbooks import Lines, open_sheet
from fl_jobs.errors import DataError

MAX_FILES = 200_000
MAX_DEPTH = 6
MAX_TABLES = 20
LOOKED_AT_BYTES = 16 * 2**20  # of a CSV file
LOOKED_AT_ROWS = 20_000
LABELS_MOST = 200
MOSTLY = 0.9  # so many cells are numbers: a column of numbers, with errors to be found by the check
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
TABLE_ENDINGS = {".csv", ".xlsx"}
ARCHIVE_ENDINGS = {".zip", ".7z", ".rar", ".gz", ".tgz", ".tar", ".bz2", ".xz"}
DICOM_ENDINGS = {".dcm", ".dicom", ".ima"}
_MAGIC_AT, _MAGIC = 128, b"DICM"


@dataclass
class Column:
    """One column of a table; ``values`` when they are few enough to be labels."""

    name: str
    is_number: bool
    filled: int
    distinct: int
    values: dict[str, int]


@dataclass
class TableLook:
    """One CSV or XLSX file, as far as it was looked at; ``error`` as sentence, values and place."""

    file: str
    encoding: str = "utf-8"
    rows: int = 0
    is_whole: bool = True
    columns: list[Column] = field(default_factory=list)
    error: dict[str, Any] | None = None


@dataclass
class Look:
    """A folder at a glance. ``images`` and ``dicom``: files per subfolder ("" is the folder itself)."""

    files: int = 0
    bytes: int = 0
    tables: list[TableLook] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)
    dicom: dict[str, int] = field(default_factory=dict)


def look(folder: Path) -> dict[str, Any]:
    """Look at a data folder. Raises DataError for links, archives and folders beyond the limits."""
    found, images, dicom = Look(), Counter[str](), Counter[str]()
    tables = []
    for path in walk(folder):
        found.files += 1
        found.bytes += path.stat().st_size
        ending, place = path.suffix.lower(), path.relative_to(folder).parts
        subfolder = place[0] if len(place) > 1 else ""
        if ending in ARCHIVE_ENDINGS:
            raise DataError("%(file)s is an archive, which is not opened. Unpack it here.", file=path.name)
        if ending in TABLE_ENDINGS and len(place) == 1:
            tables.append(path)
        elif ending in IMAGE_ENDINGS:
            images[subfolder] += 1
        elif is_dicom(path):
            dicom[subfolder] += 1
    found.tables = [look_at_table(path) for path in sorted(tables)[:MAX_TABLES]]
    found.images, found.dicom = dict(sorted(images.items())), dict(sorted(dicom.items()))
    return asdict(found)


def walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Every file below ``folder`` in the order of names. Raises DataError for links and too many files."""
    for count, path in enumerate(_walk(folder, depth), start=1):
        if count > MAX_FILES:
            raise DataError("The folder has more than %(most)s files. Divide the data set.", most=MAX_FILES)
        yield path


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    if depth > MAX_DEPTH:
        raise DataError("Folders lie more than %(most)s deep. Put the files higher up.", most=MAX_DEPTH)
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.is_symlink():
            raise DataError(
                "%(file)s is a link, which is not followed. Put the file itself here.", file=entry.name
            )
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), depth + 1)
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its ending or by the four letters at byte 128."""
    if path.suffix.lower() in DICOM_ENDINGS:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # files of archives are called 1.2.840.…
        return False
    with path.open("rb") as file:
        return file.read(_MAGIC_AT + 4)[_MAGIC_AT:] == _MAGIC


def look_at_table(path: Path) -> TableLook:
    """Columns of one table, with what their values are like."""
    found = TableLook(path.name)
    try:
        lines = _lines(path, found)
        _number, header = next(lines, (0, []))
        rows = [cells for _number, cells in islice(lines, LOOKED_AT_ROWS) if len(cells) == len(header)]
    except DataError as error:
        found.error = {"sentence": error.sentence, "values": error.values, "where": error.where}
        return found
    found.rows = len(rows)
    found.is_whole = found.is_whole and len(rows) < LOOKED_AT_ROWS
    found.columns = [_column(name.strip(), [row[at] for row in rows]) for at, name in enumerate(header)]
    return found


def _lines(path: Path, found: TableLook) -> Lines:
    if path.suffix.lower() == ".xlsx":
        return open_sheet(path.name, read_table_file(path), None, ())[1]
    size = path.stat().st_size
    if size > MAX_TABLE_BYTES:
        read_table_file(path)  # says so
    with path.open("rb") as file:
        data = file.read(LOOKED_AT_BYTES)
    if size > len(data):  # only whole lines; a newline is never part of a GB18030 letter
        found.is_whole, data = False, data[: data.rfind(b"\n") + 1]
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        found.encoding = "gb18030" if is_gb18030(data) else "utf-8"
    return csv_lines(path.name, decode_text(path.name, data, found.encoding))


def _column(name: str, cells: Sequence[str]) -> Column:
    filled = [cell.strip() for cell in cells if cell.strip()]
    counts = Counter(filled)
    shown = dict(counts.most_common()) if len(counts) <= LABELS_MOST else {}
    is_number = bool(filled) and sum(map(_is_number, filled)) >= MOSTLY * len(filled)
    return Column(name, is_number, len(filled), len(counts), shown)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
