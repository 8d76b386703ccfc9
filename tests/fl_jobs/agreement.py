"""A simulated run beside a real one of the same job: where and by how much their numbers differ."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fl_jobs.packaging.spec import RunSpec
from fl_jobs.simulate import run_in_process

OPENLY = ("epoch", "time", "at", "seconds", "sites")  # what a journal says besides the numbers of learning
POINTS = 0.005


def numbers_of(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Every number of learning in a run's journal, by where it stands (``round 2/cohort/global/train_loss``).

    Of records of the same kind and round the last counts: a round measured again after a resume.
    """
    found: dict[str, float] = {}
    for record in records:
        if record.get("kind") in ("round", "validate", "finish"):
            head = f"{record['kind']} {record.get('round', '')}".strip()
            for key in ("cohort", "validated", "chosen"):
                found |= _flat(f"{head}/{key}", record.get(key))
    return found


def _flat(where: str, value: Any) -> dict[str, float]:
    if isinstance(value, Mapping):
        parts = [
            _flat(f"{where}/{key}", v) for key, v in value.items() if key not in (*OPENLY, "site_metrics")
        ]
        return {name: number for part in parts for name, number in part.items()}
    return {where: float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else {}


def compare_runs(
    spec: RunSpec, site_homes: Mapping[str, Path], real_records: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Play ``spec`` in this process on the same registered data and compare with a real run's journal.

    Returns "identical", "numbers" (how many were compared), "largest" difference and "where", the largest
    difference of an accuracy ("points"), "agrees" (identical, or accuracies within half a point), and
    "only_in_one": numbers that only one of the two has.
    """
    simulated = numbers_of(run_in_process(spec, site_homes))
    real = numbers_of(real_records)
    both = sorted(simulated.keys() & real.keys())
    differences = {name: abs(simulated[name] - real[name]) for name in both}
    where = max(both, key=differences.__getitem__, default="")
    accuracies = [value for name, value in differences.items() if name.endswith("accuracy")]
    only = sorted(simulated.keys() ^ real.keys())
    identical = bool(both) and not only and not any(differences.values())
    return {
        "identical": identical, "numbers": len(both), "largest": differences.get(where, 0.0), "where": where,
        "points": max(accuracies, default=0.0), "only_in_one": only,
        "agrees": identical or (bool(accuracies) and max(accuracies) <= POINTS),
    }  # fmt: skip
