"""Where simulated sites come from: a partition in PFLlib's manner, or folders with our manifests.

A partition is a folder with ``meta.json`` and one ``client_NN.npz`` per site holding x_train, y_train, x_test
and y_test. Its numbers are taken as they are: PFLlib has no scaling per site, so there is none here.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fl_jobs.data import DataPart, TextEncoder, load_part, register
from fl_jobs.data.manifest import MANIFEST, Manifest, read_manifest
from fl_jobs.data.tables import PARTS
from fl_jobs.errors import DataError, SpecError
from fl_jobs.packaging.spec import TaskSpec

MAX_FILE_BYTES = 4 * 2**30
MAX_CLASSES = 200
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
IMAGES, TABLES = 4, 2  # dimensions of x
LARGEST = 1e30  # of an input, as in a table


@dataclass(frozen=True)
class SiteParts:
    """The parts of one site; ``validation`` may hold no case."""

    train: DataPart
    validation: DataPart
    test: DataPart

    @property
    def nbytes(self) -> int:
        return sum(part.x.nbytes + part.y.nbytes for part in (self.train, self.validation, self.test))


class Source(Protocol):
    """Sites by name, the task their data fit, and whether each site's inputs are standardised there."""

    sites: tuple[str, ...]
    task: TaskSpec
    standardised: bool

    def read(self, site: str, encode: TextEncoder) -> SiteParts:
        """Read one site's parts; ``encode`` makes codes of texts. Raises DataError."""
        ...


class PartitionFolder:
    """A partition in PFLlib's manner.

    ``validation`` is the share of each site's training cases that is cut off to choose a round with (PFLlib
    has none: 0); the cut follows from ``seed`` and the site. Raises DataError.
    """

    standardised = False

    def __init__(self, folder: Path, *, validation: float = 0.0, seed: int = 0) -> None:
        if not 0.0 <= validation < 1.0:
            raise SpecError(
                f"The share held out for validation is {validation}; choose one from 0 to below 1."
            )
        _read_meta(folder / "meta.json")
        self._paths = {path.stem.replace("_", "-"): path for path in sorted(folder.glob("client_*.npz"))}
        if not self._paths:
            raise DataError(f"{folder} has no client_NN.npz. Name the folder of a partition.")
        self._validation, self._seed = validation, seed
        self.sites = tuple(self._paths)
        self.task = self._find_task()

    def read(self, site: str, encode: TextEncoder) -> SiteParts:
        del encode
        path = self._paths[site]
        x_train, y_train, x_test, y_test = _read_arrays(path)
        count = round(len(y_train) * self._validation)
        if len(y_train) - count < 1:
            raise DataError(f"{path.name} has no training case left. Cut off a smaller share.")
        order = np.random.default_rng([self._seed, self.sites.index(site)]).permutation(len(y_train))
        held = np.sort(order[:count])
        kept = np.setdiff1d(np.arange(len(y_train)), held)
        parts = ((x_train[kept], y_train[kept]), (x_train[held], y_train[held]), (x_test, y_test))
        return SiteParts(*(_part(x, y) for x, y in parts))

    def _find_task(self) -> TaskSpec:
        shapes: dict[tuple[int, ...], str] = {}
        classes = 0
        for path in self._paths.values():
            x_train, y_train, x_test, y_test = _read_arrays(path)
            shapes |= {x.shape[1:]: path.name for x in (x_train, x_test)}
            classes = max(classes, *(int(y.max()) + 1 for y in (y_train, y_test)))
        if len(shapes) > 1:
            raise DataError(f"{' and '.join(shapes.values())} hold inputs of different shapes. Correct one.")
        labels = tuple(str(number) for number in range(max(classes, 2)))
        shape = next(iter(shapes))
        try:
            if len(shape) == IMAGES - 1:
                channels, height, width = shape
                return TaskSpec(kind="image", labels=labels, channels=channels, height=height, width=width)
            return TaskSpec(kind="tabular", labels=labels, features=tuple(f"x{i}" for i in range(shape[0])))
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"Inputs of shape {shape} do not fit: {first['loc'][0]}: {first['msg']}."
            ) from error


class SiteFolders:
    """Sites with data of our own kind: ``<root>/<site>/data/<dataset>/manifest.json``.

    The data are registered in ``scratch``, so nothing is written beside them. Raises DataError.
    """

    standardised = True

    def __init__(self, root: Path, scratch: Path, *, dataset: str = "", size: int = 64) -> None:
        _check_readable(root)
        found = sorted(root.glob(f"*/data/{dataset or '*'}/{MANIFEST}"))
        if not found:
            raise DataError(
                f"{root} has neither client_NN.npz nor <site>/data/{dataset or '<dataset>'}/{MANIFEST}. "
                "Name a folder with sites."
            )
        self.folders = {path.parents[2].name: path.parent for path in found}
        if len(self.folders) < len(found):
            raise DataError(f"A site of {root} has more than one data set. Say which with --dataset.")
        self._scratch = scratch
        self.sites = tuple(sorted(self.folders))
        manifests = {site: read_manifest(self.folders[site]) for site in self.sites}
        self.task = _task_of(manifests, size)
        for site, folder in self.folders.items():
            with _of_site(site):
                register(folder, self.registered(site))

    def read(self, site: str, encode: TextEncoder) -> SiteParts:
        folder, registered = self.folders[site], self.registered(site)
        with _of_site(site):
            return SiteParts(*(load_part(folder, registered, part, self.task, encode) for part in PARTS))

    def registered(self, site: str) -> Path:
        """Where the registration of the site's data set lies."""
        return self._scratch / site / "registered"


def open_source(
    folder: Path, scratch: Path, *, dataset: str = "", size: int = 64, validation: float = 0.0, seed: int = 0
) -> Source:
    """The sites of ``folder``, whichever kind it is. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Name a partition, or a folder with one folder per site.")
    if (folder / "meta.json").exists() or any(folder.glob("client_*.npz")):
        return PartitionFolder(folder, validation=validation, seed=seed)
    return SiteFolders(folder, scratch, dataset=dataset, size=size)


def _check_readable(root: Path) -> None:
    """A search passes folders without rights over, and the run would lack a site without a word."""
    for folder in (*root.glob("*"), *root.glob("*/data"), *root.glob("*/data/*")):
        if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            raise DataError(f"{folder} cannot be read. Ask for the right to, or move it out of {root}.")


def _task_of(manifests: dict[str, Manifest], size: int) -> TaskSpec:
    first = next(iter(manifests.values()))
    for site, manifest in manifests.items():
        if (manifest.kind, manifest.features) != (first.kind, first.features):
            raise DataError(
                f"Site {site} has other columns or another kind of data than site {next(iter(manifests))}. "
                "Name the same “features” in the same order in both manifests."
            )
    labels = tuple(dict.fromkeys(label for manifest in manifests.values() for label in manifest.labels))
    if first.kind == "image":
        return TaskSpec(kind="image", labels=labels, height=size, width=size)
    return TaskSpec(kind=first.kind, labels=labels, features=first.features)


def _read_meta(path: Path) -> None:
    """A partition says how it was made; only that it is JSON is asked here."""
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is missing or not JSON. A partition says there how it was made; write it again."
        ) from error


def _read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any], NDArray[np.int64]]:
    with _explained(path):
        size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise DataError(f"{path.name} is larger than 4 GiB. Divide it.")
    with _explained(path), path.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
        if missing := [name for name in ARRAYS if name not in arrays]:
            raise DataError(f"{path.name} lacks the array “{missing[0]}”. Write the partition again.")
        x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
    for y in (y_train, y_test):
        if y.ndim != 1 or y.dtype.kind not in "iu":
            raise DataError(
                f"{path.name}: labels are not a list of whole numbers. Write the partition again."
            )
    for x, y, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
        _check_cases(f"{path.name}, {part}", x, y)
    return x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64)


@contextmanager
def _of_site(site: str) -> Iterator[None]:
    """Sites have files of the same names; a refusal says whose it is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"Site {site}: {error}") from error


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        what = type(error).__name__
        raise DataError(
            f"{path.name} cannot be read as npz without pickles ({what}). Write it again."
        ) from error


def _check_cases(where: str, x: NDArray[Any], y: NDArray[Any]) -> None:
    if x.ndim not in (IMAGES, TABLES) or x.dtype.kind not in "fiu":
        raise DataError(
            f"{where}: inputs are neither images nor a table of numbers. Write the partition again."
        )
    if len(x) != len(y) or not len(y):
        raise DataError(f"{where}: {len(x)} inputs and {len(y)} labels. Write the partition again.")
    if y.min() < 0 or y.max() >= MAX_CLASSES:
        raise DataError(f"{where}: labels must lie between 0 and {MAX_CLASSES - 1}. Number them again.")
    if x.dtype.kind == "f" and not (np.abs(x) <= LARGEST).all():  # nor is NaN
        raise DataError(f"{where}: an input is not a number of usable size. Correct or remove the case.")


def _part(x: NDArray[Any], y: NDArray[np.int64]) -> DataPart:
    ready = np.ascontiguousarray(x if x.dtype == np.uint8 and x.ndim == IMAGES else x.astype(np.float32))
    return DataPart(ready, y, np.arange(len(y)).astype(np.str_))
