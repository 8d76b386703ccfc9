"""The data folders: readable, registered as they are, nobody on two sides of the split, enough cases."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator

from fl_jobs.data import read_registration
from fl_jobs.data.manifest import MANIFEST, Manifest, inside, read_manifest
from fl_jobs.data.register import Registration, file_sha256
from fl_jobs.data.tables import PARTS, Row, Table, numbers, read_table
from fl_jobs.errors import DataError
from site_kits.agent.datasets import data_folders
from site_kits.agent.doctor.examination import NotExaminedError, Patient, WarningFoundError
from site_kits.translation import _

FEWEST_GROUPS = 30  # of every label in the test part; below it a run says "cannot be tested here"


def present(patient: Patient) -> None:
    if not data_folders(patient.home):
        sentence = _("No folder with a manifest.json lies below {folder}. Put the site's data there.")
        raise WarningFoundError(sentence.format(folder=patient.home.data))


def _folders(patient: Patient) -> Iterator[tuple[str, Manifest]]:
    names = data_folders(patient.home)
    if not names:
        raise NotExaminedError(_("no data yet"))
    for name in names:
        yield name, read_manifest(patient.home.data / name)


def manifests(patient: Patient) -> None:
    for _name, _manifest in _folders(patient):
        pass


def rows(patient: Patient) -> None:
    """Every row can be read; the first that cannot is named with its file and number."""
    for name, manifest in _folders(patient):
        table = read_table(patient.home.data / name, manifest)
        if manifest.kind == "tabular":
            numbers(table, table.rows, manifest.features)


def files(patient: Patient) -> None:
    """Every image a row names is there."""
    for name, manifest in _folders(patient):
        if manifest.kind != "image":
            continue
        folder = patient.home.data / name
        table = read_table(folder, manifest)
        for row in table.rows:
            if not inside(folder, row.cells[0], where=table.where(row)).is_file():
                sentence = _("{where}: the image {file} is missing. Put it there or remove the row.")
                raise DataError(sentence.format(where=table.where(row), file=row.cells[0]))


def _registered(patient: Patient) -> Iterator[tuple[str, Manifest, Table, Registration]]:
    for name, manifest in _folders(patient):
        if not (patient.home.registered / f"{manifest.name}.json").exists():
            continue
        known = read_registration(patient.home.registered, manifest.name)
        table = read_table(patient.home.data / name, manifest)
        if len(known.parts) == len(table.rows):
            yield name, manifest, table, known


def registered(patient: Patient) -> None:
    """Every folder is registered, and no file of it has changed since."""
    for name, manifest in _folders(patient):
        folder = patient.home.data / name
        if not (patient.home.registered / f"{manifest.name}.json").exists():
            sentence = _("data/{name} is not registered. Run: ./start.sh register {name}")
            raise DataError(sentence.format(name=name))
        known = read_registration(patient.home.registered, manifest.name)
        for file in (MANIFEST, manifest.file):
            if known.files.get(file) != file_sha256(folder / file):
                sentence = _(
                    "{file} of data/{name} changed since it was registered. Run: ./start.sh register {name}"
                )
                raise DataError(sentence.format(file=file, name=name))


def patients(patient: Patient) -> None:
    """No patient stands on two sides of the split."""
    for name, _manifest, table, known in _registered(patient):
        sides: dict[str, set[str]] = defaultdict(set)
        for row, part in zip(table.rows, known.parts, strict=True):
            sides[row.group].add(part)
        if divided := [group for group, parts in sides.items() if len(parts) > 1]:
            sentence = _(
                "data/{name}: {count} patients have rows in training and in testing. Put all rows of a "
                "patient into one part, and register again."
            )
            raise DataError(sentence.format(name=name, count=len(divided)))


def duplicates(patient: Patient) -> None:
    """The same case under two names on two sides of the split flatters every model."""
    for name, manifest, table, known in _registered(patient):
        seen: dict[bytes, tuple[Row, str]] = {}
        for row, part in zip(table.rows, known.parts, strict=True):
            first, first_part = seen.setdefault(_content(manifest, known, row), (row, part))
            if part == first_part:
                continue
            sentence = _(
                "data/{name}: rows {one} and {other} are the same case on two sides of the split ({parts}). "
                "If it is one patient, give both rows the same group and register again."
            ).format(name=name, one=first.number, other=row.number, parts=f"{first_part}, {part}")
            # two patients may share a few numbers or a short text, but not an image
            raise DataError(sentence) if manifest.kind == "image" else WarningFoundError(sentence)


def _content(manifest: Manifest, known: Registration, row: Row) -> bytes:
    cells = (known.files.get(row.cells[0], row.cells[0]),) if manifest.kind == "image" else row.cells
    return hashlib.sha256("\x1f".join(cells).encode()).digest()


def label_counts(patient: Patient) -> None:
    """Enough of every label in the test part for a run to say whether it helps."""
    few: list[str] = []
    for name, manifest, table, known in _registered(patient):
        groups: dict[str, set[str]] = {label: set() for label in manifest.labels}
        for row, part in zip(table.rows, known.parts, strict=True):
            if part == PARTS[-1]:
                groups[row.label].add(row.group)
        few += [
            f"{name}/{label} {len(found)}" for label, found in groups.items() if len(found) < FEWEST_GROUPS
        ]
    if few:
        sentence = _(
            "Too few patients in the test part to judge a run by ({counts}; {least} are needed of every "
            "label): such runs will say “cannot be tested here”. More cases help; nothing else is wrong."
        )
        raise WarningFoundError(sentence.format(counts=", ".join(few[:6]), least=FEWEST_GROUPS))
