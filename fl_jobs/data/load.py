"""Loading one part of a registered data set, and the cases of a request, as arrays a model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fl_jobs.data.images import check_pixels, encode_image, open_image, read_image_file
from fl_jobs.data.manifest import (
    MANIFEST,
    MAX_CELL_CHARACTERS,
    MAX_LOADED_BYTES,
    Manifest,
    inside,
    read_manifest,
)
from fl_jobs.data.register import Registration, file_sha256, read_registration
from fl_jobs.data.tables import Row, Table, numbers, read_table
from fl_jobs.data.texts import TextEncoder, encode_texts
from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import TaskSpec


@dataclass(frozen=True)
class DataPart:
    """Cases of one part.

    ``x``: float32 rows × features, bytes rows × channels × height × width, or int64 codes rows × length;
    ``y``: positions in the study's label list; ``groups``: the patient or image of each row.
    """

    x: NDArray[Any]
    y: NDArray[np.int64]
    groups: NDArray[np.str_]


def load_part(
    folder: Path, registered_folder: Path, part: str, task: TaskSpec, encode: TextEncoder = encode_texts
) -> DataPart:
    """Load the rows of ``part`` ("train", "validation" or "test"); cases of other parts are not decoded.

    ``encode`` makes codes of texts, as :func:`fl_jobs.data.text_encoder` gives it for a model.

    Raises DataError when the files changed since they were registered or do not fit the study.
    """
    manifest = read_manifest(folder)
    registration = read_registration(registered_folder, manifest.name)
    table = read_table(folder, manifest)
    _check_unchanged(folder, manifest, table, registration)
    _check_task(manifest, task)
    rows = tuple(row for row, at in zip(table.rows, registration.parts, strict=True) if at == part)
    places = {label: place for place, label in enumerate(task.labels)}
    return DataPart(
        x=_cases(folder, manifest, table, rows, task, registration, encode),
        y=np.array([places[row.label] for row in rows], dtype=np.int64),
        groups=np.array([row.group for row in rows], dtype=np.str_),
    )


def encode_records(
    task: TaskSpec, records: Sequence[Any], encode: TextEncoder = encode_texts
) -> NDArray[Any]:
    """Cases of a request as an array: dicts of features, PIL images or texts. Raises DataError."""
    if not records:
        raise DataError("The request holds no case. Send at least one.")
    named = [(record, f"record {number}") for number, record in enumerate(records, start=1)]
    if task.kind == "tabular":
        return np.array([_features(record, task, where) for record, where in named], dtype=np.float32)
    if task.kind == "image":
        return np.stack([_image(record, task, where) for record, where in named])
    return encode([_text(record, where) for record, where in named], task.max_characters)


def _cases(
    folder: Path,
    manifest: Manifest,
    table: Table,
    rows: tuple[Row, ...],
    task: TaskSpec,
    known: Registration,
    encode: TextEncoder,
) -> NDArray[Any]:
    if manifest.kind == "tabular":
        order = [manifest.features.index(feature) for feature in task.features]
        return numbers(table, rows, manifest.features)[:, order]
    if manifest.kind == "text":
        _check_size(
            len(rows) * 16 * min(task.max_characters, max((len(r.cells[0]) for r in rows), default=1))
        )
        return encode([row.cells[0] for row in rows], task.max_characters)
    shape = (len(rows), task.channels, task.height, task.width)
    _check_size(int(np.prod(shape)))
    images = np.empty(shape, dtype=np.uint8)
    for index, row in enumerate(rows):
        where = table.where(row)
        data, sha256 = read_image_file(inside(folder, row.cells[0], where=where), where=where)
        if known.files.get(row.cells[0]) != sha256:
            raise DataError(
                f"{where}: {row.cells[0]} changed since it was registered. Register the data again."
            )
        images[index] = encode_image(open_image(data, where=where), task)
    return images


def _check_size(size: int) -> None:
    if size > MAX_LOADED_BYTES:
        raise DataError(f"This part would take {size >> 30} GiB of memory. Divide the data set.")


def _check_unchanged(folder: Path, manifest: Manifest, table: Table, known: Registration) -> None:
    found = {MANIFEST: file_sha256(folder / MANIFEST), manifest.file: table.sha256}
    for name, sha256 in found.items():
        if known.files.get(name) != sha256 or len(known.parts) != len(table.rows):
            raise DataError(f"{name} changed since it was registered. Register “{manifest.name}” again.")


def _check_task(manifest: Manifest, task: TaskSpec) -> None:
    if manifest.kind != task.kind:
        raise DataError(f"“{manifest.name}” holds {manifest.kind} data; the study needs {task.kind}.")
    if unknown := [label for label in manifest.labels if label not in task.labels]:
        raise DataError(
            f"“{manifest.name}” has the label “{unknown[0]}”, which the study does not know. Rename it."
        )
    if absent := [feature for feature in task.features if feature not in manifest.features]:
        raise DataError(
            f"“{manifest.name}” lacks the feature “{absent[0]}” of the study. Add it to the manifest."
        )


def _features(record: Any, task: TaskSpec, where: str) -> list[float]:
    if not isinstance(record, dict):
        raise DataError(f"{where}: a table's case is an object of feature and number.")
    values: list[float] = []
    for feature in task.features:
        value = record.get(feature)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or not number or not abs(value) < 1e30:
            raise DataError(f"{where}: “{feature}” is missing or not a number. Fill it in.")
        values.append(float(value))
    return values


def _image(record: Any, task: TaskSpec, where: str) -> NDArray[np.uint8]:
    if not isinstance(record, Image.Image):
        raise DataError(f"{where}: this study needs an image.")
    check_pixels(record.size, where=where)
    return encode_image(record, task)


def _text(record: Any, where: str) -> str:
    if not isinstance(record, str) or not record.strip():
        raise DataError(f"{where}: this study needs a text that is not empty.")
    if len(record) > MAX_CELL_CHARACTERS:
        raise DataError(f"{where}: the text has more than {MAX_CELL_CHARACTERS} characters. Shorten it.")
    return record
