"""Reading one sheet of an XLSX workbook: sizes are judged before anything is unpacked, nothing is evaluated.

openpyxl reads row by row (``read_only``). It believes what a file says about its own size, so the sheet's
stated dimensions are dropped and rows, columns and cells are counted here.
"""

import io
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from xml.etree.ElementTree import ParseError

from fl_jobs.data.manifest import (
    MAX_COLUMNS,
    MAX_ROWS,
    MAX_UNPACKED_BYTES,
    MAX_WORKBOOK_BYTES,
    MAX_WORKBOOK_CELLS,
)
from fl_jobs.errors import DataError

Lines = Iterator[tuple[int, list[str]]]  # row number as the spreadsheet program shows it, cells

MAX_MEMBERS = 2_000
LOOKED_AT_BYTES = 4096
# what openpyxl, its XML parser and zipfile raise for a damaged workbook (seen by altering bytes)
DAMAGED_WORKBOOK = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, ParseError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def open_sheet(name: str, data: bytes, sheet: str | None, wanted: Sequence[str]) -> tuple[str, Lines]:
    """The sheet's name for refusals, and its rows, the header first, empty rows left out.

    Cells of the ``wanted`` columns must be values: a formula is refused, never evaluated. Raises DataError.
    """
    from openpyxl import load_workbook  # here: memory that only sites with workbooks need

    _check_archive(name, data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles and extensions it leaves out
            book = load_workbook(io.BytesIO(data), read_only=True, keep_links=False)
        titles = list(book.sheetnames)
        if sheet is not None and sheet not in titles:
            known = ", ".join(titles[:10])
            raise DataError(
                "%(file)s has no sheet “%(sheet)s”; it has: %(known)s. Correct the manifest.",
                file=name, sheet=str(sheet), known=known,
            )  # fmt: skip
        chosen = book[sheet or titles[0]]
        chosen.reset_dimensions()
    except DAMAGED_WORKBOOK as error:
        raise _damaged(name, error) from error
    where = f"{name}, sheet “{chosen.title}”"
    return where, _lines(where, chosen, wanted)


def _check_archive(name: str, data: bytes) -> None:
    """Refuse by what the archive's directory says, which is also all that zipfile will unpack."""
    if len(data) > MAX_WORKBOOK_BYTES:
        raise DataError(
            "%(file)s is larger than %(most)s MiB. Save it as CSV, or divide it.",
            file=name,
            most=MAX_WORKBOOK_BYTES >> 20,
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.flag_bits & 1 for member in members):
                raise DataError("%(file)s is encrypted. Save it without a password.", file=name)
            if (
                len(members) > MAX_MEMBERS
                or sum(member.file_size for member in members) > MAX_UNPACKED_BYTES
                or any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members)
            ):
                raise DataError(
                    "%(file)s unpacks to more than %(most)s MiB or is unusual. Save it as CSV.",
                    file=name,
                    most=MAX_UNPACKED_BYTES >> 20,
                )
            for member in members:
                if member.filename.endswith((".xml", ".rels")):
                    with archive.open(member) as part:
                        _check_xml(name, part.read(LOOKED_AT_BYTES))
    except DAMAGED_WORKBOOK as error:
        raise _damaged(name, error) from error


def _check_xml(name: str, start: bytes) -> None:
    """No workbook declares a document type; a bomb of entities does. UTF-16 would hide it."""
    if b"<!DOCTYPE" in start.upper() or b"<!ENTITY" in start.upper() or b"\x00" in start:
        raise DataError(
            "%(file)s holds XML that no spreadsheet program writes. Save it again, or as CSV.", file=name
        )


def _lines(where: str, sheet: Any, wanted: Sequence[str]) -> Lines:
    header: list[str] = []
    cells_seen = 0
    try:
        for number, row in enumerate(sheet.iter_rows(), start=1):
            cells_seen += len(row)
            if number > MAX_ROWS or cells_seen > MAX_WORKBOOK_CELLS:
                raise DataError("%(file)s has too many rows or cells. Divide the data set.", file=where)
            if len(row) > MAX_COLUMNS:
                raise DataError(
                    "more than %(most)s columns. Remove some.",
                    where=f"{where}, row {number}",
                    most=MAX_COLUMNS,
                )
            if all(cell.value is None for cell in row):
                continue
            if not header:
                header = [str(_plain(cell.value)).strip() for cell in row]
                while header and not header[-1]:
                    header.pop()
                yield number, header
                continue
            yield number, _cells(f"{where}, row {number}", row, header, wanted)
    except DAMAGED_WORKBOOK as error:
        raise _damaged(where, error) from error


def _cells(where: str, row: Sequence[Any], header: list[str], wanted: Sequence[str]) -> list[str]:
    """As many cells as the header has; what stands to the right of it is not looked at."""
    cells = [""] * len(header)
    for place, cell in enumerate(row[: len(header)]):
        if header[place] in wanted and cell.value is not None:
            if cell.data_type == "f":
                raise DataError(
                    "the cell holds a formula, which is never evaluated. Replace it by its value.",
                    where=f"{where}, column “{header[place]}”",
                )
            if cell.data_type == "e":
                raise DataError(
                    "the cell holds an error. Correct it.", where=f"{where}, column “{header[place]}”"
                )
        cells[place] = _plain(cell.value)
    return cells


def _plain(value: object) -> str:
    """A cell as a person would write it into a CSV file."""
    if value is None:
        return ""
    if isinstance(value, datetime | date | time | timedelta):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def _damaged(name: str, error: Exception) -> DataError:
    kind = type(error).__name__
    return DataError(
        "%(file)s cannot be read as an XLSX workbook (%(kind)s). Save it again, or as CSV.",
        file=name,
        kind=kind,
    )
