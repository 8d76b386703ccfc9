"""Which real runs need not be measured again: what decides about their figures, how far two lie apart."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_jobs.catalog import ALGORITHMS
from fl_jobs.packaging.spec import RunSpec
from infra.demo.datasets import DemoStudy
from tests.bench.kept_rows import DECLARATIONS, REPOSITORY, KeptRows, _sha256
from tests.e2e.studies import run_spec

YARDSTICKS = ("local_only", "fedavg")  # run in every study
FIRST_SEED = 101  # seeds are fixed before a figure is seen
DECISIVE = ("fl_jobs", "infra/demo/datasets", "infra/demo/tickets")
NOTED = ("accuracy", "balanced_accuracy", "log_loss")
CARRIERS = ("fl_jobs/flare", "fl_jobs/approval", "fl_jobs/masking", "fl_jobs/simulate")


@dataclass(frozen=True)
class Asked:
    """What is to be measured on one federation. ``requests``: of each hotline province, 0 elsewhere."""

    study: DemoStudy
    algorithms: tuple[str, ...]
    seeds: int
    rounds: int | None
    requests: int = 0

    def spec(self, algorithm: str, seed: int = FIRST_SEED) -> RunSpec:
        return run_spec(self.study, algorithm, seed=seed, rounds=self.rounds)

    def all_seeds(self) -> list[int]:
        return list(range(FIRST_SEED, FIRST_SEED + self.seeds))


def kept_algorithms(asked: Asked, kept: KeptRows) -> dict[str, dict[str, Any]]:
    """The kept rows that today's code and specification would measure, by algorithm."""
    wanted = {name: code_behind(asked.spec(name)) for name in asked.algorithms}
    seeds = [str(seed) for seed in asked.all_seeds()]
    return {
        row["algorithm"]: row
        for row in kept.rows
        if (row["study"], row["requests"]) == (asked.study.slug, asked.requests)
        and row["code"] == wanted.get(row["algorithm"])
        and list(row["by_seed"]) == seeds
    }


def code_behind(spec: RunSpec) -> str:
    """SHA-256 over what decides about a run's figures: its specification, the files that train and judge.

    What carries messages and masks is left out: item 5 of the proof compares a real run with the simulator.
    """
    files = _python_files(DECISIVE) - _python_files(CARRIERS) - DECLARATIONS
    lines = [f"{file.relative_to(REPOSITORY)} {_sha256(file)}" for file in sorted(files)]
    entries = [ALGORITHMS[name] for name in (spec.algorithm, *YARDSTICKS)]
    lines += [f"{entry.name} {entry.path} {entry.fold}" for entry in entries]
    return hashlib.sha256("\n".join((*lines, spec.digest())).encode()).hexdigest()


def _python_files(folders: tuple[str, ...]) -> set[Path]:
    return {file for folder in folders for file in (REPOSITORY / folder).rglob("*.py")}


def cells_of(run: dict[str, Any]) -> dict[str, Any]:
    """What each arm reached at each site in one run; the log loss moves when any weight does."""
    return {
        site: {arm: {name: cell[name] for name in NOTED} for arm, cell in report["cells"].items()}
        for site, report in sorted(run["finish"]["sites"].items())
    }


def largest_move(before: dict[str, Any], after: dict[str, Any]) -> float:
    """The largest difference of a figure of two runs; infinite where only one of them has it."""
    if before.keys() != after.keys():
        return float("inf")
    found = [0.0]
    for key, old in before.items():
        new = after[key]
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(largest_move(old, new))
        elif old is None or new is None:
            found.append(0.0 if old is new else float("inf"))
        else:
            found.append(abs(old - new))
    return max(found)
