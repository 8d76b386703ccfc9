"""What a site's patients have paid in privacy, over all runs: ``<site home>/privacy/ledger.json``.

A charge is on disk before the training it pays for begins, so a crash can only count too much. Charges for
whole sites count for patients too: another patient moves a site's update by up to twice the clip, which
halves the noise. Charges are added where name or digest of the data set agree: registering the data again
under its name does not wipe the account. (Under another name and with other bytes the same patients are not
recognised; that is the operator's to know.)
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_jobs.errors import PrivacyBudgetError, SiteHomeError
from fl_jobs.packaging.spec import PrivacySpec
from fl_jobs.privacy.accountant import Releases, epsilon
from fl_jobs.tensor_files import write_bytes

FILE = Path("privacy") / "ledger.json"
_KEYS = {"dataset", "dataset_sha256", "run", "run_digest", "unit", "sample_rate", "noise_multiplier", "count"}
Entry = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """The most a site lets its patients pay, over all runs together: ε at δ for one patient."""

    epsilon: float
    delta: float


class Ledger:
    """One run's access to the site's account of one data set. ``budget`` None: only the run's own limit."""

    def __init__(
        self, site_home: Path, *, dataset: str, sha256: str, run: str, digest: str, budget: Budget | None
    ) -> None:
        self._path = site_home / FILE
        self._dataset, self._sha256, self.budget = dataset, sha256, budget
        self._own = {"dataset": dataset, "dataset_sha256": sha256, "run": run, "run_digest": digest}

    def check(self, privacy: PrivacySpec, planned: Iterable[Releases]) -> None:
        """Refuse a run whose whole plan does not fit, before its first step. Raises PrivacyBudgetError.

        A run that has begun is not asked again: what it has paid stays paid.
        """
        with self._locked() as entries:
            if any(entry["run"] == self._own["run"] for entry in entries):
                return
            self._check_budget(entries + [self._entry(privacy, each) for each in planned])

    def charge(self, privacy: PrivacySpec, releases: Releases) -> None:
        """Write ``releases`` down, durably; or raise PrivacyBudgetError and charge nothing."""
        with self._locked() as entries:
            entry = self._entry(privacy, releases)
            self._check_run(privacy, [*entries, entry])
            self._check_budget([*entries, entry])
            for known in entries:
                if all(known[key] == entry[key] for key in _KEYS - {"count"}):
                    known["count"] += entry["count"]
                    break
            else:
                entries.append(entry)
            text = json.dumps({"version": 1, "entries": entries}, indent=1, sort_keys=True)
            write_bytes(self._path, text.encode() + b"\n", mode=0o600)

    def spent(self, delta: float) -> float:
        """ε at ``delta`` that one patient of this data set has paid so far."""
        with self._locked() as entries:
            return self._patient_epsilon(entries, delta)

    def _check_run(self, privacy: PrivacySpec, entries: list[Entry]) -> None:
        own = [entry for entry in entries if entry["run"] == self._own["run"]]
        total = epsilon((_releases(entry) for entry in own), privacy.delta)
        if total > privacy.epsilon_max:
            raise PrivacyBudgetError(
                f"With this order the run would have spent ε = {total:.2f} at this site and may spend "
                f"{privacy.epsilon_max:g}: orders that are repeated are charged again. Start a new run."
            )

    def _check_budget(self, entries: list[Entry]) -> None:
        if self.budget is None:
            return
        total = self._patient_epsilon(entries, self.budget.delta)
        if total > self.budget.epsilon:
            raise PrivacyBudgetError(
                f"The site's privacy budget for “{self._dataset}” is ε = {self.budget.epsilon:g} at δ = "
                f"{self.budget.delta:g} for each patient; with this run {total:.2f} would be spent. "
                "Lower the run's rounds or raise its noise, or ask the site's operator."
            )

    def _patient_epsilon(self, entries: list[Entry], delta: float) -> float:
        mine = (e for e in entries if self._dataset == e["dataset"] or self._sha256 == e["dataset_sha256"])
        return epsilon((_releases(e, halved=e["unit"] == "site") for e in mine), delta)

    def _entry(self, privacy: PrivacySpec, releases: Releases) -> Entry:
        return self._own | {
            "unit": privacy.unit,
            "sample_rate": releases.sample_rate,
            "noise_multiplier": releases.noise_multiplier,
            "count": releases.count,
        }

    @contextlib.contextmanager
    def _locked(self) -> Iterator[list[Entry]]:
        """The entries, while no other process of this site reads or writes them."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield _read(self._path)
        finally:
            os.close(descriptor)


def _read(path: Path) -> list[Entry]:
    """A ledger that cannot be read is never taken for an empty one. Raises SiteHomeError."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        found = None
    entries = found.get("entries") if isinstance(found, dict) and found.get("version") == 1 else None
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise SiteHomeError(
            f"{path} is no readable account of the privacy spent. Restore it from your backup; private runs "
            "stay refused until then."
        )
    return entries


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != _KEYS or entry["unit"] not in ("record", "site"):
        return False
    rate, noise, count = entry["sample_rate"], entry["noise_multiplier"], entry["count"]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (rate, noise, count)):
        return False
    return 0 < rate <= 1 and noise > 0 and isinstance(count, int) and count >= 0


def _releases(entry: Entry, *, halved: bool = False) -> Releases:
    noise = entry["noise_multiplier"] / (2 if halved else 1)
    return Releases(float(entry["sample_rate"]), float(noise), int(entry["count"]))
