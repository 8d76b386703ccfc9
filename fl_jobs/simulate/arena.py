"""The personal parts of simulated sites: rows of float32 in memory up to a budget, the rest on disk."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_jobs.messages import TensorMap
from fl_jobs.site_session.store import PersonalStore

_Layout = dict[str, tuple[int, ...]]


class Arena(PersonalStore):
    """Holds the newest personal part of every arm of every site; ``site`` says whose turn it is.

    An evaluation or a round needs no older one, and a simulation writes no model files. Parts that came
    first lie in memory until ``budget_bytes`` are used; all others are files below ``folder``.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder, self.site = folder, ""
        self._left = budget_bytes
        self._layouts: dict[str, _Layout] = {}
        self._rounds: dict[tuple[str, str], int] = {}
        self._rows: dict[tuple[str, str], NDArray[np.float32]] = {}

    @property
    def on_disk(self) -> int:
        """How many parts lie on disk."""
        return len(self._rounds) - len(self._rows)

    def write(self, arm: str, number: int, tensors: TensorMap) -> str:
        key = (self.site, arm)
        self._layouts.setdefault(arm, {name: value.shape for name, value in tensors.items()})
        row = np.concatenate([np.zeros(0, np.float32), *(value.ravel() for value in tensors.values())])
        if key not in self._rounds and row.nbytes <= self._left:
            self._left -= row.nbytes
            self._rows[key] = row
        elif key in self._rows:
            self._rows[key][:] = row
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            row.tofile(self._file(arm))
        self._rounds[key] = number
        return ""

    def read_newest(self, arm: str, up_to: int) -> tuple[int, TensorMap] | None:
        key = (self.site, arm)
        number = self._rounds.get(key)
        if number is None or number > up_to:
            return None
        row = self._rows[key] if key in self._rows else np.fromfile(self._file(arm), dtype=np.float32)
        tensors: TensorMap = {}
        start = 0
        for name, shape in self._layouts[arm].items():
            size = int(np.prod(shape, dtype=np.int64))
            tensors[name] = row[start : start + size].reshape(shape)
            start += size
        return number, tensors

    def has(self, arm: str, number: int) -> bool:
        return self._rounds.get((self.site, arm)) == number

    def prune(self, arm: str, keep: object) -> None:
        """Nothing older is held."""

    def _file(self, arm: str) -> Path:
        return self.folder / f"{self.site}.{arm}.f32"
