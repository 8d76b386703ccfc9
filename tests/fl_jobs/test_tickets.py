"""Tables as other institutions keep them: their own column names, workbooks, Chinese encodings."""

import contextlib
import csv
import io
import json
import re
import zipfile
from datetime import date

import numpy as np
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_jobs.data import load_part, read_registration, register, workbooks
from fl_jobs.data.manifest import Manifest
from fl_jobs.data.tables import read_table
from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import TaskSpec

LABELS = ("交通运输", "教育")
TASK = TaskSpec(kind="text", labels=LABELS, max_characters=60)
HEADER = ("编号", "诉求内容", "承办部门", "来电人")
COLUMNS = {"value": "诉求内容", "label": "承办部门", "group": "来电人"}


def rows(count=30):
    return [
        (i, ("公交车不来", "学校食堂")[i % 2] + str(i), LABELS[i % 2], f"caller-{i // 2 * 2 + i % 2}")
        for i in range(count)
    ]


def write_manifest(folder, file, **changes):
    manifest = {"name": "tickets", "kind": "text", "file": file, "labels": list(LABELS), **COLUMNS} | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write_csv(folder, cases, *, saved_as="utf-8", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tickets.csv").open("w", newline="", encoding=saved_as) as handle:
        csv.writer(handle).writerows([HEADER, *cases])
    write_manifest(folder, "tickets.csv", **changes)


def write_book(folder, cases, *, sheet="工单", header=HEADER, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    book.active.title = "说明"
    page = book.create_sheet(sheet)
    for row in (header, *cases):
        page.append(row)
    book.save(folder / "tickets.xlsx")
    write_manifest(folder, "tickets.xlsx", **({"sheet": sheet} | changes))


def loaded(folder, registered):
    register(folder, registered)
    return [load_part(folder, registered, part, TASK) for part in ("train", "validation", "test")]


def test_a_workbook_and_a_csv_in_either_encoding_give_the_same_cases(tmp_path):
    write_csv(tmp_path / "utf8", rows())
    write_csv(tmp_path / "bom", rows(), saved_as="utf-8-sig")
    write_csv(tmp_path / "gb", rows(), saved_as="gb18030", encoding="gb18030")
    write_book(tmp_path / "book", rows())
    first = loaded(tmp_path / "utf8", tmp_path / "r-utf8")
    assert sum(len(part.y) for part in first) == 30
    for name in ("bom", "gb", "book"):
        for one, other in zip(first, loaded(tmp_path / name, tmp_path / f"r-{name}"), strict=True):
            assert np.array_equal(one.x, other.x)
            assert np.array_equal(one.y, other.y)
            assert list(one.groups) == list(other.groups)


def test_a_named_part_column_fixes_the_parts(tmp_path):
    cases = [(*row, "test" if row[0] < 8 else "") for row in rows()]
    write_book(tmp_path, cases, header=(*HEADER, "用途"), part="用途")
    assert register(tmp_path, tmp_path / "r").parts["test"] == 8


def test_that_data_are_synthetic_stands_on_the_card(tmp_path):
    write_csv(tmp_path, rows(), synthetic=True)
    assert register(tmp_path, tmp_path / "r").synthetic
    assert read_registration(tmp_path / "r", "tickets").card.synthetic
    write_csv(tmp_path, rows())
    assert not register(tmp_path, tmp_path / "r").synthetic


def test_cells_are_what_a_person_would_write(tmp_path):
    header = ("f0", "f1", "when", "承办部门", "来电人")
    cases = [(i, i + 0.5, date(2026, 1, 2 + i), LABELS[i % 2], 1000.0 + i) for i in range(6)]
    changes = {"kind": "tabular", "features": ["f0", "f1"], "value": None}
    write_book(tmp_path, [*cases, (None,) * 5], header=header, **changes)
    manifest = Manifest.model_validate_json((tmp_path / "manifest.json").read_bytes())
    table = read_table(tmp_path, manifest)
    assert [row.cells for row in table.rows][:2] == [("0", "0.5"), ("1", "1.5")]
    assert [row.group for row in table.rows][:2] == ["1000", "1001"]
    assert len(table.rows) == 6


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((1, "=A1&A2", LABELS[0], "c"), "工单”, row 32, column “诉求内容”: the cell holds a formula"),
        ((1, "#N/A", LABELS[0], "c"), "row 32, column “诉求内容”: the cell holds an error"),
        ((1, "公交", "殡葬", "c"), r"tickets\.xlsx, sheet “工单”, row 32: label “殡葬” is not one of"),
        ((1, None, LABELS[0], "c"), "row 32: the text is empty"),
        ((1, "公交", LABELS[0], None), "row 32: the group is empty"),
    ],
)
def test_a_bad_row_of_a_workbook_is_named(tmp_path, row, words):
    write_book(tmp_path, [*rows(), row])
    with pytest.raises(DataError, match=words):
        register(tmp_path, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_formulas_in_columns_nobody_reads_do_no_harm(tmp_path):
    write_book(tmp_path, [("=1+1", *row[1:]) for row in rows()])
    assert register(tmp_path, tmp_path / "r").rows == 30


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sheet": "明细"}, "no sheet “明细”; it has: 说明, 工单"),
        ({"sheet": None}, "no column “诉求内容”"),
        ({"value": "内容"}, "no column “内容”"),
        ({"part": "用途"}, "no column “用途”"),
        ({"encoding": "latin-1"}, "“encoding”"),
        ({"kind": "tabular", "features": ["编号"]}, "“value” is for texts and images"),
        ({"file": "tickets.csv"}, "“sheet” is for a workbook"),
    ],
)
def test_a_manifest_that_does_not_fit_gets_a_sentence(tmp_path, changes, words):
    write_book(tmp_path, rows())
    write_manifest(tmp_path, **({"file": "tickets.xlsx", "sheet": "工单"} | changes))
    with pytest.raises(DataError, match=words):
        register(tmp_path, tmp_path / "r")


@pytest.mark.parametrize(
    ("saved_as", "changes", "words"),
    [
        (
            "gb18030",
            {},
            r"tickets\.csv, line 1: not UTF-8 text, but GB18030.* name its encoding",
        ),
        ("utf-16", {"encoding": "gb18030"}, "NUL bytes, as UTF-16 and programs do. Save it as CSV in UTF-8"),
    ],
)
def test_an_encoding_that_does_not_fit_gets_a_sentence(tmp_path, saved_as, changes, words):
    write_csv(tmp_path, rows(), saved_as=saved_as, **changes)
    with pytest.raises(DataError, match=words):
        register(tmp_path, tmp_path / "r")


def altered(data, name, change):
    """The workbook with one of its parts changed."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, change(old.read(member)) if member == name else old.read(member))
    return result.getvalue()


SHEET = "xl/worksheets/sheet2.xml"


@pytest.mark.parametrize(
    ("member", "change", "words"),
    [
        (SHEET, lambda xml: xml + b" " * 2**28, "unpacks to more than 256 MiB"),
        (
            "xl/workbook.xml",
            lambda xml: b"<!DOCTYPE lolz [<!ENTITY a 'a'>]>" + xml,
            "XML that no spreadsheet",
        ),
        ("xl/workbook.xml", lambda xml: xml.decode().encode("utf-16"), "XML that no spreadsheet"),
        (SHEET, lambda xml: xml[:400], "cannot be read as an XLSX workbook"),
        (SHEET, lambda xml: xml.replace(b'<row r="3"', b'<row r="9000000000"'), "too many rows or cells"),
        (SHEET, lambda xml: xml.replace(b'r="D3"', b'r="ZZZ3"'), "row 3: more than 2000 columns"),
    ],
)
def test_a_workbook_that_wants_more_than_it_may_is_refused(tmp_path, member, change, words):
    write_book(tmp_path, rows())
    path = tmp_path / "tickets.xlsx"
    path.write_bytes(altered(path.read_bytes(), member, change))
    with pytest.raises(DataError, match=words):
        register(tmp_path, tmp_path / "r")


def test_stated_dimensions_are_not_believed(tmp_path):
    write_book(tmp_path, rows())
    path = tmp_path / "tickets.xlsx"
    huge = b'<dimension ref="A1:XFD1048576"/>'
    change = lambda xml: re.sub(rb"<dimension[^>]*/>", huge, xml)  # noqa: E731
    path.write_bytes(altered(path.read_bytes(), SHEET, change))
    assert huge in zipfile.ZipFile(path).read(SHEET)
    assert register(tmp_path, tmp_path / "r").rows == 30


def test_too_many_cells_are_refused_while_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(workbooks, "MAX_WORKBOOK_CELLS", 50)
    write_book(tmp_path, rows())
    with pytest.raises(DataError, match="too many rows or cells"):
        register(tmp_path, tmp_path / "r")


@pytest.fixture(scope="module")
def book_bytes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    write_book(folder, rows(8))
    return (folder / "tickets.xlsx").read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_altered_bytes_give_rows_or_a_sentence(book_bytes, changes):
    data = bytearray(book_bytes)
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(DataError):
        list(workbooks.open_sheet("t.xlsx", bytes(data), None, HEADER)[1])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    member=st.sampled_from([SHEET, "xl/workbook.xml", "xl/styles.xml", "[Content_Types].xml"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_altered_parts_give_rows_or_a_sentence(book_bytes, member, changes):
    def change(xml):
        data = bytearray(xml)
        for place, value in changes:
            data[place % len(data)] = value
        return bytes(data)

    with contextlib.suppress(DataError):
        list(workbooks.open_sheet("t.xlsx", altered(book_bytes, member, change), "工单", HEADER)[1])
