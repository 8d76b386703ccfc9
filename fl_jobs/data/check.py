"""Every fault of a data folder at once, row by row, where registering stops at the first."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_jobs.data.images import open_image, read_image_file
from fl_jobs.data.manifest import MAX_ROWS, Manifest, inside
from fl_jobs.data.tables import Row, open_table, read_header, read_number, read_row, read_table_file
from fl_jobs.errors import DataError

FAULTS_KEPT = 50


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row; ``values`` fill the ``%(name)s`` of ``sentence``."""

    row: int
    column: str
    sentence: str
    values: dict[str, Any]


@dataclass
class Check:
    """How many rows were looked at, how many faults they have, and the first of those."""

    file: str
    rows: int = 0
    count: int = 0
    faults: list[Fault] = field(default_factory=list)

    def note(self, row: int, column: str, error: DataError) -> None:
        """Count a fault, and keep it while there is room."""
        self.count += 1
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(Fault(row, column, error.sentence, error.values))


def check_rows(folder: Path, manifest: Manifest) -> Check:
    """Look at every row of a data folder. Raises DataError when its table cannot be read at all."""
    path = inside(folder, manifest.file, where="manifest.json")
    name, lines = open_table(path.name, read_table_file(path), manifest)
    header, places = read_header(name, lines, manifest)
    check = Check(name)
    for number, cells in lines:
        if not cells:
            continue
        check.rows += 1
        if check.rows > MAX_ROWS:
            raise DataError(
                "%(file)s has more than %(most)s rows. Divide the data set.", file=name, most=MAX_ROWS
            )
        try:
            row = read_row(name, number, cells, header, places, manifest)
        except DataError as error:
            check.note(number, "", error)
            continue
        for column, fault in _cell_faults(folder, manifest, row):
            check.note(number, column, fault)
    return check


def _cell_faults(folder: Path, manifest: Manifest, row: Row) -> Iterator[tuple[str, DataError]]:
    columns = manifest.features if manifest.kind == "tabular" else (manifest.value_column,)
    for column, cell in zip(columns, row.cells, strict=True):
        try:
            _check_cell(folder, manifest, column, cell)
        except DataError as error:
            yield column, error


def _check_cell(folder: Path, manifest: Manifest, column: str, cell: str) -> None:
    if manifest.kind == "tabular":
        read_number(cell, "", column)
    elif manifest.kind == "image":
        data, _sha256 = read_image_file(inside(folder, cell, where=""), where="")
        open_image(data, where="")
    elif not cell:
        raise DataError("the text is empty. Fill it or remove the row.")
