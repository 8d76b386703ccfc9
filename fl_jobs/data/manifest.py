"""The manifest of a site's data folder, and the limits every file of it is held to."""

import json
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import NAME_PATTERN, TaskKind

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 * 2**20
MAX_TABLE_BYTES = 512 * 2**20
MAX_WORKBOOK_BYTES = 64 * 2**20  # packed
MAX_UNPACKED_BYTES = 256 * 2**20  # of all parts of a workbook
MAX_WORKBOOK_CELLS = 20_000_000
MAX_COLUMNS = 2_000
MAX_ROWS = 2_000_000
MAX_CELL_CHARACTERS = 20_000
MAX_IMAGE_BYTES = 50 * 2**20
MAX_IMAGE_PIXELS = 40_000_000
MAX_LOADED_BYTES = 4 * 2**30


class Manifest(BaseModel):
    """``data/<dataset>/manifest.json``: which file holds the cases and which column means what.

    ``file`` is a CSV (in ``encoding``) or an XLSX workbook (``sheet``, else its first). ``value``: the column
    of the text or of the image's path. ``part``: the column that fixes a row's part; a column called "part"
    is used without being named. ``synthetic``: no case is a real person's; said wherever the data is shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=NAME_PATTERN)
    kind: TaskKind
    file: str = Field(min_length=1, max_length=255)
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    sheet: str | None = None
    value: str | None = Field(default=None, min_length=1)
    label: str = "label"
    group: str | None = None
    part: str | None = None
    features: tuple[str, ...] = ()
    labels: tuple[str, ...] = Field(min_length=2, max_length=200)
    synthetic: bool = False

    @model_validator(mode="after")
    def _is_complete(self) -> "Manifest":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("“labels” names one label twice")
        if self.kind == "tabular" and (not self.features or len(set(self.features)) != len(self.features)):
            raise ValueError("“features” must name the columns to learn from, each once")
        if self.kind == "tabular" and self.value:
            raise ValueError("“value” is for texts and images; a table names its columns under “features”")
        if not self.is_workbook and self.sheet:
            raise ValueError("“sheet” is for a workbook (.xlsx)")
        return self

    @property
    def is_workbook(self) -> bool:
        return self.file.lower().endswith(".xlsx")

    @property
    def value_column(self) -> str:
        """The column of an image or text file that holds the case itself."""
        return self.value or ("path" if self.kind == "image" else "text")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns the file must have."""
        cells = self.features if self.kind == "tabular" else (self.value_column,)
        return (*cells, self.label, *(name for name in (self.group, self.part) if name))


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``manifest.json`` of a data folder. Raises DataError."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise DataError("%(file)s is larger than 1 MiB. Shorten it.", file=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            "There is no readable manifest.json in %(folder)s. Write one beside the data.", folder=str(folder)
        ) from error
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(
            "%(file)s is not valid JSON (%(fault)s). Correct it.", file=str(path), fault=str(error)
        ) from error
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        fault = f"“{where}”: {message}" if where else message
        raise DataError("%(file)s: %(fault)s. Correct it.", file=str(path), fault=fault) from error


def inside(folder: Path, name: str, *, where: str) -> Path:
    """The path of a file named in a manifest or table. Raises DataError when it leads out of the folder."""
    relative = PurePosixPath(name)
    path = folder / relative
    if (
        relative.is_absolute()
        or ".." in relative.parts
        or not path.resolve().is_relative_to(folder.resolve())
    ):
        raise DataError(
            "“%(file)s” leads out of the data folder. Name a file inside it.", where=where, file=name
        )
    return path
