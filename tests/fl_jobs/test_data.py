import json
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from fl_jobs.data import encode_records, load_part, register
from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import TaskSpec
from tests.fl_jobs.sites import (
    FEATURES,
    IMAGE,
    LABELS,
    TABULAR,
    TEXT,
    image_home,
    tabular_home,
    tabular_rows,
    text_home,
    write_images,
    write_table,
)

PARTS = ("train", "validation", "test")


def load_all(home, task):
    return {part: load_part(home / "data" / "cases", home / "registered", part, task) for part in PARTS}


def test_registering_twice_gives_the_same_card(tmp_path):
    write_table(tmp_path / "data", tabular_rows(50))
    first = register(tmp_path / "data", tmp_path / "registered")
    assert first == register(tmp_path / "data", tmp_path / "registered")
    assert first.rows == 50
    assert sum(first.parts.values()) == 50
    assert first.parts["train"] == pytest.approx(30, abs=2)
    assert set(first.label_counts) == set(LABELS)


def test_no_group_is_in_two_parts(tmp_path):
    home = image_home(tmp_path, 72)
    where = defaultdict(set)
    for part, data in load_all(home, IMAGE).items():
        for group in data.groups:
            where[group].add(part)
    assert all(len(parts) == 1 for parts in where.values())


def test_tabular_parts_are_numbers_in_the_study_order(tmp_path):
    home = tabular_home(tmp_path)
    backwards = TaskSpec(kind="tabular", labels=LABELS[::-1], features=FEATURES[::-1])
    plain, turned = load_all(home, TABULAR)["train"], load_all(home, backwards)["train"]
    assert plain.x.dtype == np.float32
    assert np.array_equal(plain.x, turned.x[:, ::-1])
    assert np.array_equal(plain.y, 1 - turned.y)


def test_images_become_bytes_of_the_task_size(tmp_path):
    part = load_all(image_home(tmp_path), TaskSpec(kind="image", labels=LABELS, height=8, width=10))["train"]
    assert part.x.dtype == np.uint8
    assert part.x.shape[1:] == (3, 8, 10)


def test_texts_become_codes_that_do_not_depend_on_the_machine(tmp_path):
    part = load_all(text_home(tmp_path), TEXT)["train"]
    assert part.x.dtype == np.int64
    assert part.x.min() == 0
    assert encode_records(TEXT, ["Ab"]).tolist() == encode_records(TEXT, [" ａＢ "]).tolist()
    assert encode_records(TEXT, ["ab"]).tolist() == [[683130436, 834596858, 511920238]]


def test_a_given_test_part_is_kept(tmp_path):
    rows = [(*row, "test" if number < 7 else "") for number, row in enumerate(tabular_rows(40))]
    write_table(tmp_path / "data" / "cases", rows, header=("case", *FEATURES, "diagnosis", "part"))
    card = register(tmp_path / "data" / "cases", tmp_path / "registered")
    assert card.parts["test"] == 7
    assert card.parts["validation"] == pytest.approx(33 / 4, abs=1.5)
    assert {f"c{n}" for n in range(7)} == set(load_all(tmp_path, TABULAR)["test"].groups)


def test_a_given_part_that_divides_a_patient_is_refused(tmp_path):
    rows = [(*row, "test" if number < 7 else "train") for number, row in enumerate(tabular_rows(40))]
    rows[10] = ("c1", *rows[10][1:])
    write_table(tmp_path / "data", rows, header=("case", *FEATURES, "diagnosis", "part"))
    with pytest.raises(DataError, match=r"cases\.csv, row 12: group “c1” is in test and in train"):
        register(tmp_path / "data", tmp_path / "registered")


@pytest.mark.parametrize(
    ("patients", "counts"), [((3, 3), (2, 2, 2)), ((2, 1), (2, 0, 1)), ((1, 3), (2, 1, 1))]
)
def test_labels_with_few_patients_follow_the_rule(tmp_path, patients, counts):
    rows = [
        (f"{label}{i}", *"123456", label) for label, n in zip(LABELS, patients, strict=True) for i in range(n)
    ]
    write_table(tmp_path / "data", rows)
    parts = register(tmp_path / "data", tmp_path / "registered").parts
    expected = counts if counts[1] else (1, 1, 1)  # no validation left: cut as one stratum
    assert tuple(parts[part] for part in PARTS) == expected


def test_fewer_than_three_patients_are_refused(tmp_path):
    write_table(tmp_path / "data", [("p", *"123456", LABELS[0]), ("q", *"123456", LABELS[1])])
    with pytest.raises(DataError, match="at least three patients"):
        register(tmp_path / "data", tmp_path / "registered")


GOOD = ("x", *"123456", LABELS[0])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("x", "nan", *"23456", LABELS[0]), r"cases\.csv, row 32, column “f0”: nan is not usable"),
        (("x", "1e999", *"23456", LABELS[0]), "row 32, column “f0”"),
        (("x", "", *"23456", LABELS[0]), "the cell is empty"),
        (("x", "high", *"23456", LABELS[0]), "“high” is not a number"),
        (("x", *"123456", "unsure"), "row 32: label “unsure” is not one of"),
        (("x", *"12345", LABELS[0]), "row 32: 7 cells, the header has 8"),
        (("", *"123456", LABELS[0]), "row 32: the group is empty"),
        (("x" * 20_001, *"123456", LABELS[0]), "row 32: a cell has more than"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_registered(tmp_path, row, words):
    write_table(tmp_path / "data", [*tabular_rows(30), row])
    with pytest.raises(DataError, match=words):
        register(tmp_path / "data", tmp_path / "registered")
    assert not (tmp_path / "registered").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"file": "gone.csv"}, "gone.csv is missing"),
        ({"file": "../cases.csv"}, "leads out of the data folder"),
        ({"label": "outcome"}, "no column “outcome”"),
        ({"labels": ["one"]}, "“labels”"),
        ({"features": []}, "features"),
        ({"kind": "video"}, "“kind”"),
        ({"surprise": 1}, "“surprise”"),
        ({"name": "../up"}, "“name”"),
    ],
)
def test_a_bad_manifest_gets_a_sentence(tmp_path, changes, words):
    write_table(tmp_path / "data", tabular_rows(30), **changes)
    with pytest.raises(DataError, match=words):
        register(tmp_path / "data", tmp_path / "registered")


def test_one_class_only_is_refused(tmp_path):
    write_table(tmp_path / "data", [row for row in tabular_rows(30) if row[-1] == LABELS[0]])
    with pytest.raises(DataError, match="only cases of “benign”"):
        register(tmp_path / "data", tmp_path / "registered")


def test_no_manifest_and_broken_json_get_a_sentence(tmp_path):
    with pytest.raises(DataError, match="no readable manifest"):
        register(tmp_path / "nothing", tmp_path / "registered")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        register(tmp_path, tmp_path / "registered")


def bomb(path):
    """A PNG of some bytes whose header says 50,000 × 50,000 pixels."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (bomb, "row 5: the image has more than 40 million pixels"),
        (lambda path: path.write_bytes(b"not an image"), "row 5: the image cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:80]), "row 5: the image cannot be read"),
        (lambda path: path.unlink(), r"row 5: 3\.png is missing"),
    ],
)
def test_a_bad_image_is_named(tmp_path, damage, words):
    write_images(tmp_path / "data")
    damage(tmp_path / "data" / "images" / "3.png")
    with pytest.raises(DataError, match=words):
        register(tmp_path / "data", tmp_path / "registered")


def test_files_changed_after_registration_are_refused(tmp_path):
    home = image_home(tmp_path)
    for path in (home / "data" / "cases" / "images").iterdir():
        Image.new("RGB", (16, 16)).save(path)
    with pytest.raises(DataError, match="changed since it was registered"):
        load_all(home, IMAGE)
    table = tabular_home(tmp_path / "t")
    with (table / "data" / "cases" / "cases.csv").open("a") as handle:
        handle.write(",".join(map(str, GOOD)) + "\n")
    with pytest.raises(DataError, match="changed since it was registered"):
        load_all(table, TABULAR)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (TaskSpec(kind="text", labels=LABELS), "needs text"),
        (TaskSpec(kind="tabular", labels=("benign", "other"), features=FEATURES), "“malignant”"),
        (TaskSpec(kind="tabular", labels=LABELS, features=("age",)), "lacks the feature “age”"),
    ],
)
def test_data_that_does_not_fit_the_study_is_refused(tmp_path, task, words):
    with pytest.raises(DataError, match=words):
        load_all(tabular_home(tmp_path), task)


def test_an_unregistered_data_set_is_refused(tmp_path):
    write_table(tmp_path / "data" / "cases", tabular_rows(30))
    with pytest.raises(DataError, match="not registered"):
        load_all(tmp_path, TABULAR)


@pytest.mark.parametrize(
    ("task", "records", "words"),
    [
        (TABULAR, [], "no case"),
        (TABULAR, ["x"], "record 1"),
        (TABULAR, [dict.fromkeys(FEATURES, 1.0), {"f0": 1.0}], "record 2: “f1” is missing"),
        (TABULAR, [dict.fromkeys(FEATURES, float("nan"))], "not a number"),
        (TABULAR, [dict.fromkeys(FEATURES, "1")], "not a number"),
        (IMAGE, ["x"], "needs an image"),
        (IMAGE, [Image.new("L", (8000, 6000))], "8000 × 6000"),
        (TEXT, [" "], "not empty"),
        (TEXT, [3], "not empty"),
        (TEXT, ["a" * 20_001], "more than"),
    ],
)
def test_a_bad_request_gets_a_sentence(task, records, words):
    with pytest.raises(DataError, match=words):
        encode_records(task, records)


def test_the_registered_file_holds_no_case(tmp_path):
    home = tabular_home(tmp_path)
    registered = json.loads((home / "registered" / "cases.json").read_text())
    assert registered.keys() == {"version", "card", "seed", "parts", "files", "hidden"}
