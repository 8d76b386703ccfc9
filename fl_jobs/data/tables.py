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
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DataError(f"{path.name} is larger than {MAX_TABLE_BYTES >> 20} MiB. Divide the data set.")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} is missing or cannot be read. Put it there or correct the manifest."
        ) from error
    if manifest.is_workbook:
        name, lines = open_sheet(path.name, data, manifest.sheet, manifest.columns)
    else:
        name, lines = path.name, _csv_lines(path.name, _decode(path.name, data, manifest.encoding))
    rows = tuple(_rows(name, lines, manifest))
    if not rows:
        raise DataError(f"{name} has no rows below its header. Add the cases.")
    return Table(path, hashlib.sha256(data).hexdigest(), rows, name)


def _decode(name: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        if encoding == "utf-8":
            what = "Save it as UTF-8, or name its encoding in the manifest (“encoding”: “gb18030”)."
        else:
            what = "Save it as UTF-8 and remove “encoding” from the manifest."
        raise DataError(f"{name}, line {line}: not {encoding.upper()} text. {what}") from error


def _csv_lines(name: str, text: str) -> Lines:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"{name}, row {reader.line_num}: not valid CSV ({error}). Correct the row."
        ) from error


def _rows(name: str, lines: Lines, manifest: Manifest) -> Iterator[Row]:
    _, header = next(lines, (0, []))
    places = _places(name, header, manifest)
    for count, (number, cells) in enumerate(lines, start=1):
        if count > MAX_ROWS:
            raise DataError(f"{name} has more than {MAX_ROWS} rows. Divide the data set.")
        if cells:
            yield _row(name, number, cells, header, places, manifest)


def _places(name: str, header: list[str], manifest: Manifest) -> dict[str, int]:
    for column in manifest.columns:
        if header.count(column) != 1:
            how = "no column" if column not in header else "more than one column"
            raise DataError(f"{name} has {how} “{column}”, which the manifest names. Correct one of the two.")
    return {column: place for place, column in enumerate(header)}


def _row(
    name: str, number: int, cells: list[str], header: list[str], places: dict[str, int], manifest: Manifest
) -> Row:
    where = f"{name}, row {number}"
    if len(cells) != len(header):
        raise DataError(f"{where}: {len(cells)} cells, the header has {len(header)}. Correct the row.")
    if max(map(len, cells)) > MAX_CELL_CHARACTERS:
        raise DataError(f"{where}: a cell has more than {MAX_CELL_CHARACTERS} characters. Shorten it.")
    label = cells[places[manifest.label]].strip()
    if label not in manifest.labels:
        known = ", ".join(manifest.labels[:10])
        raise DataError(
            f"{where}: label “{label[:40]}” is not one of the manifest's labels ({known}). Correct it."
        )
    part_column = manifest.part or "part"
    part = cells[places[part_column]].strip() if part_column in places else ""
    if part not in ("", *PARTS):
        raise DataError(f"{where}: part “{part[:40]}” is unknown; use {', '.join(PARTS)} or leave it empty.")
    value_columns = manifest.features if manifest.kind == "tabular" else (manifest.value_column,)
    values = tuple(cells[places[column]].strip() for column in value_columns)
    group_column = manifest.group or ("group" if "group" in places and manifest.kind != "tabular" else None)
    group = cells[places[group_column]].strip() if group_column else f"row-{number}"
    if not group:
        raise DataError(f"{where}: the group is empty. Name the patient or image the case belongs to.")
    return Row(number, values, label, group, part)


def numbers(table: Table, rows: tuple[Row, ...], features: tuple[str, ...]) -> NDArray[np.float32]:
    """The cells of ``rows`` as numbers, one column per feature. Raises DataError for empty cells and NaN."""
    result = np.empty((len(rows), len(features)), dtype=np.float32)
    for index, row in enumerate(rows):
        for column, cell in enumerate(row.cells):
            result[index, column] = _number(cell, table.where(row), features[column])
    return result


def _number(cell: str, where: str, feature: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        what = f"“{cell[:40]}” is not a number" if cell else "the cell is empty"
        raise DataError(f"{where}, column “{feature}”: {what}. Correct or remove the row.") from None
    if not math.isfinite(value) or abs(value) > 1e30:
        raise DataError(f"{where}, column “{feature}”: {cell[:40]} is not usable. Correct or remove the row.")
    return value
