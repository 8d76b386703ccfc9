"""Reading the table of a data folder (CSV or XLSX), row by row, with the row's number in every refusal."""

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_jobs.data.manifest import MAX_CELL_CHARACTERS, MAX_ROWS, MAX_TABLE_BYTES, Manifest, inside
from fl_jobs.data.workbooks import Lines, open_sheet
from fl_jobs.errors import DataError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Row:
    """One case as it stands in the file; ``number`` counts the file's lines from 1 (the header is 1)."""

    number: int
    cells: tuple[str, ...]
    label: str
    group: str
    part: str


@dataclass(frozen=True)
class Table:
    """All rows of a data folder and the digest of the file they came from."""

    path: Path
    sha256: str
    rows: tuple[Row, ...]
    name: str  # the file, and of a workbook the sheet

    def where(self, row: Row) -> str:
        """File, sheet and row, as every refusal names them."""
        return f"{self.name}, row {row.number}"


def read_table(folder: Path, manifest: Manifest) -> Table:
    """Read the rows of the manifest's file. Raises DataError naming file, sheet and row."""
    path = inside(folder, manifest.file, where="manifest.json")
    data = read_table_file(path)
    name, lines = open_table(path.name, data, manifest)
    rows = tuple(_rows(name, lines, manifest))
    if not rows:
        raise DataError("%(file)s has no rows below its header. Add the cases.", file=name)
    return Table(path, hashlib.sha256(data).hexdigest(), rows, name)


def read_table_file(path: Path) -> bytes:
    """The bytes of a CSV or XLSX file. Raises DataError, for a file that is too large before it is read."""
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DataError(
                "%(file)s is larger than %(most)s MiB. Divide the data set.",
                file=path.name,
                most=MAX_TABLE_BYTES >> 20,
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            "%(file)s is missing or cannot be read. Put it there or correct the manifest.", file=str(path)
        ) from error


def open_table(name: str, data: bytes, manifest: Manifest) -> tuple[str, Lines]:
    """The table's name for refusals, and its lines, the header first. Raises DataError."""
    if manifest.is_workbook:
        return open_sheet(name, data, manifest.sheet, manifest.columns)
    return name, csv_lines(name, decode_text(name, data, manifest.encoding))


def decode_text(name: str, data: bytes, encoding: str) -> str:
    """The text of a CSV file. Raises DataError naming the line at which it is none."""
    if (at := data.find(b"\0")) >= 0:  # UTF-16, or no text at all; csv would take NUL for a letter
        raise DataError(
            "the file holds NUL bytes, as UTF-16 and programs do. Save it as CSV in UTF-8.",
            where=_line(name, data, at),
        )
    try:
        return data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        where = _line(name, data, error.start)
        if encoding == "gb18030":
            raise DataError(
                "not GB18030 text. Save it as UTF-8 and remove “encoding” from the manifest.", where=where
            ) from error
        if is_gb18030(data):
            raise DataError(
                "not UTF-8 text, but GB18030, which Chinese Windows writes. Save it as UTF-8, or name its "
                "encoding in the manifest (“encoding”: “gb18030”).",
                where=where,
            ) from error
        raise DataError("neither UTF-8 nor GB18030 text. Save it as CSV in UTF-8.", where=where) from error


def is_gb18030(data: bytes) -> bool:
    """Whether ``data``, which is not UTF-8, can be read as GB18030."""
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


def _line(name: str, data: bytes, at: int) -> str:
    return f"{name}, line {data.count(10, 0, at) + 1}"


def csv_lines(name: str, text: str) -> Lines:
    """The rows of a CSV text with their numbers. Raises DataError."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            "not valid CSV (%(fault)s). Correct the row.",
            where=f"{name}, row {reader.line_num}",
            fault=str(error),
        ) from error


def _rows(name: str, lines: Lines, manifest: Manifest) -> Iterator[Row]:
    header, places = read_header(name, lines, manifest)
    for count, (number, cells) in enumerate(lines, start=1):
        if count > MAX_ROWS:
            raise DataError(
                "%(file)s has more than %(most)s rows. Divide the data set.", file=name, most=MAX_ROWS
            )
        if cells:
            yield read_row(name, number, cells, header, places, manifest)


def read_header(name: str, lines: Lines, manifest: Manifest) -> tuple[list[str], dict[str, int]]:
    """The header and where each column stands. Raises DataError when one the manifest names is missing."""
    _, header = next(lines, (0, []))
    return header, _places(name, header, manifest)


def _places(name: str, header: list[str], manifest: Manifest) -> dict[str, int]:
    for column in manifest.columns:
        if column not in header:
            raise DataError(
                "%(file)s has no column “%(column)s”, which the manifest names. Correct one of the two.",
                file=name,
                column=column,
            )
        if header.count(column) != 1:
            raise DataError(
                "%(file)s has more than one column “%(column)s”, which the manifest names. Correct one of "
                "the two.",
                file=name,
                column=column,
            )
    return {column: place for place, column in enumerate(header)}


def read_row(
    name: str, number: int, cells: list[str], header: list[str], places: dict[str, int], manifest: Manifest
) -> Row:
    """One row as the manifest understands it. Raises DataError with the row's number in ``where``."""
    where = f"{name}, row {number}"
    if len(cells) != len(header):
        raise DataError(
            "%(cells)s cells, the header has %(columns)s. Correct the row.",
            where=where, cells=len(cells), columns=len(header),
        )  # fmt: skip
    if max(map(len, cells)) > MAX_CELL_CHARACTERS:
        raise DataError(
            "a cell has more than %(most)s characters. Shorten it.", where=where, most=MAX_CELL_CHARACTERS
        )
    label = cells[places[manifest.label]].strip()
    if label not in manifest.labels:
        known = ", ".join(manifest.labels[:10])
        raise DataError(
            "label “%(label)s” is not one of the manifest's labels (%(known)s). Correct it.",
            where=where, label=label[:40], known=known,
        )  # fmt: skip
    part_column = manifest.part or "part"
    part = cells[places[part_column]].strip() if part_column in places else ""
    if part not in ("", *PARTS):
        raise DataError(
            "part “%(part)s” is unknown; use %(known)s or leave it empty.",
            where=where, part=part[:40], known=", ".join(PARTS),
        )  # fmt: skip
    value_columns = manifest.features if manifest.kind == "tabular" else (manifest.value_column,)
    values = tuple(cells[places[column]].strip() for column in value_columns)
    group_column = manifest.group or ("group" if "group" in places and manifest.kind != "tabular" else None)
    group = cells[places[group_column]].strip() if group_column else f"row-{number}"
    if not group:
        raise DataError("the group is empty. Name the patient or image the case belongs to.", where=where)
    return Row(number, values, label, group, part)


def numbers(table: Table, rows: tuple[Row, ...], features: tuple[str, ...]) -> NDArray[np.float32]:
    """The cells of ``rows`` as numbers, one column per feature. Raises DataError for empty cells and NaN."""
    result = np.empty((len(rows), len(features)), dtype=np.float32)
    for index, row in enumerate(rows):
        for column, cell in enumerate(row.cells):
            result[index, column] = read_number(cell, table.where(row), features[column])
    return result


def read_number(cell: str, where: str, feature: str) -> float:
    """A cell as a number. Raises DataError with row and column in ``where``."""
    place = f"{where}, column “{feature}”"
    if not cell:
        raise DataError("the cell is empty. Correct or remove the row.", where=place)
    try:
        value = float(cell)
    except ValueError:
        raise DataError(
            "“%(cell)s” is not a number. Correct or remove the row.", where=place, cell=cell[:40]
        ) from None
    if not math.isfinite(value) or abs(value) > 1e30:
        raise DataError("%(cell)s is not usable. Correct or remove the row.", where=place, cell=cell[:40])
    return value
