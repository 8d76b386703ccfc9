"""Registering a data folder: everything is checked once, the split is fixed, the card holds only counts."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fl_jobs.data.images import open_image, read_image_file
from fl_jobs.data.manifest import MANIFEST, Manifest, inside, read_manifest
from fl_jobs.data.split import split_groups
from fl_jobs.data.tables import PARTS, Table, numbers, read_table
from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import TaskKind, canonical_json
from fl_jobs.tensor_files import write_bytes

SPLIT_SEED = 20261123
MAX_REGISTERED_BYTES = 2**30
SMALLEST_COUNT = 10  # patients of a label; its count does not leave the site when it has fewer


class DatasetCard(BaseModel):
    """What the operator sees and what leaves the site about a data set: names and counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: TaskKind
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    labels: tuple[str, ...]
    rows: int
    parts: dict[str, int]
    label_counts: dict[str, int]
    synthetic: bool = False


class Registration(BaseModel):
    """``registered/<dataset>.json``: the card, the part of each row and the digests of the files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    card: DatasetCard
    seed: int
    parts: tuple[str, ...]  # one per row of the table, in its order
    files: dict[str, str]  # SHA-256 by name below the data folder
    hidden: tuple[str, ...] | None = None  # labels whose counts stay here; None: an older registration

    def shared_card(self) -> dict[str, Any]:
        """The card as it leaves the site: a hidden count is None, which says "fewer than ten patients"."""
        hidden = small_labels(self.card.label_counts) if self.hidden is None else self.hidden
        card = self.card.model_dump(mode="json")
        counts = {label: None if label in hidden else n for label, n in self.card.label_counts.items()}
        return card | {"label_counts": counts}


def register(folder: Path, registered_folder: Path, *, seed: int = SPLIT_SEED) -> DatasetCard:
    """Check every row of a data folder, fix its split and write ``<registered_folder>/<name>.json``.

    The same files give the same card. Nothing is written when anything is wrong. Raises DataError naming
    file and row.
    """
    manifest = read_manifest(folder)
    table = read_table(folder, manifest)
    counts = Counter(row.label for row in table.rows)
    if len(counts) < 2:
        raise DataError(
            "%(file)s holds only cases of “%(label)s”. Add cases of another label.",
            file=table.path.name,
            label=next(iter(counts)),
        )
    files = {MANIFEST: file_sha256(folder / MANIFEST), manifest.file: table.sha256}
    files |= dict(_check_cases(folder, manifest, table))
    group_parts = split_groups(table, manifest.labels, seed)
    parts = tuple(group_parts[row.group] for row in table.rows)
    card = DatasetCard(
        name=manifest.name,
        kind=manifest.kind,
        digest=hashlib.sha256(canonical_json({"files": files, "seed": seed})).hexdigest(),
        labels=manifest.labels,
        rows=len(table.rows),
        parts={part: parts.count(part) for part in PARTS},
        label_counts={label: counts[label] for label in manifest.labels},
        synthetic=manifest.synthetic,
    )
    patients = Counter(label for _group, label in {(row.group, row.label) for row in table.rows})
    hidden = small_labels({label: patients[label] for label in manifest.labels})
    registration = Registration(card=card, seed=seed, parts=parts, files=files, hidden=hidden)
    data = json.dumps(registration.model_dump(mode="json"), ensure_ascii=False).encode()
    write_bytes(registered_folder / f"{manifest.name}.json", data, mode=0o600)
    return card


def small_labels(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The labels whose counts stay at the site.

    Those below SMALLEST_COUNT, and as many of the next larger as it takes that the number of all rows, which
    leaves, does not give a hidden count away.
    """
    by_size = sorted((label for label in counts if counts[label]), key=lambda label: counts[label])
    hidden = [label for label in by_size if counts[label] < SMALLEST_COUNT]
    for label in by_size[len(hidden) :]:
        if not hidden or (len(hidden) > 1 and sum(counts[one] for one in hidden) >= SMALLEST_COUNT):
            break
        hidden.append(label)
    return tuple(hidden)


def read_registration(registered_folder: Path, name: str) -> Registration:
    """What :func:`register` wrote for a data set. Raises DataError."""
    path = registered_folder / f"{name}.json"
    try:
        if path.stat().st_size > MAX_REGISTERED_BYTES:
            raise DataError(
                "%(file)s is too large. Register the data set “%(name)s” again.", file=path.name, name=name
            )
        return Registration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            "The data set “%(name)s” is not registered at this site. Register it first.", name=name
        ) from error
    except ValidationError as error:
        raise DataError(
            "%(file)s was altered. Register the data set “%(name)s” again.", file=path.name, name=name
        ) from error


def _check_cases(folder: Path, manifest: Manifest, table: Table) -> Iterable[tuple[str, str]]:
    """Judge every case; yields name and digest of each image."""
    if manifest.kind == "tabular":
        numbers(table, table.rows, manifest.features)
    for row in table.rows:
        if manifest.kind == "image":
            where = table.where(row)
            data, sha256 = read_image_file(inside(folder, row.cells[0], where=where), where=where)
            open_image(data, where=where)
            yield row.cells[0], sha256
        elif manifest.kind == "text" and not row.cells[0]:
            raise DataError("the text is empty. Fill it or remove the row.", where=table.where(row))


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
