"""What a site keeps of its test part: right answers by group, so that seeds can be judged as one analysis.

The file stays at the site; groups are named by a digest, not by patient.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fl_jobs.benefit.answers import Answers, average_seeds
from fl_jobs.benefit.difference import Difference, compare_arms
from fl_jobs.errors import DataError
from fl_jobs.packaging.spec import RunSpec, canonical_json

EVIDENCE = "test_answers.json"
MAX_CASES = 2**31  # of one group


@dataclass(frozen=True)
class Evidence:
    """One run's test part at one site."""

    site: str
    spec: RunSpec
    answers: Answers

    def encode(self) -> bytes:
        """As bytes for the site's disk; a group is the SHA-256 of its name, cut to 16 hex digits."""
        found = self.answers
        groups = [hashlib.sha256(name.encode()).hexdigest()[:16] for name in found.groups_G.tolist()]
        order = np.argsort(groups)
        return canonical_json(
            {
                "version": 1,
                "site": self.site,
                "spec": self.spec.model_dump(mode="json"),
                "groups": [groups[place] for place in order],
                "cases": found.cases_GC[order].tolist(),
                "right": {arm: right_GC[order].tolist() for arm, right_GC in found.right_GC.items()},
            }
        )


def read_evidence(path: Path) -> Evidence:
    """Read one file. Raises DataError naming it."""
    try:
        stored = json.loads(path.read_bytes())
        spec = RunSpec.model_validate_json(canonical_json(stored["spec"]))
        right_GC = {str(arm): np.array(right, dtype=np.float64) for arm, right in stored["right"].items()}
        groups_G = np.array(stored["groups"], dtype=np.str_)
        answers = Answers(groups_G, np.array(stored["cases"], dtype=np.float64), right_GC)
        found = Evidence(str(stored["site"]), spec, answers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} holds no test answers of a run. Name a {EVIDENCE} of a run folder."
        ) from error
    shapes = {part.shape for part in (answers.cases_GC, *right_GC.values())}
    fits = shapes == {(len(groups_G), len(spec.judged_classes()))} and "local" in right_GC
    if not fits or not _are_counts(answers):
        raise DataError(f"{path}: its tables do not belong together. Take the file from the site again.")
    return found


def _are_counts(answers: Answers) -> bool:
    """Every group has cases, none more right answers than cases (NaN is neither), and stands there once."""
    cases_GC, groups = answers.cases_GC, answers.groups_G.tolist()
    usable = bool(((cases_GC >= 0) & (cases_GC <= MAX_CASES)).all()) and len(set(groups)) == len(groups)
    return (
        usable
        and bool(cases_GC.any(axis=1).all())
        and all(
            bool(((right_GC >= 0) & (right_GC <= cases_GC)).all()) for right_GC in answers.right_GC.values()
        )
    )


def judge_seeds(runs: Sequence[Evidence]) -> dict[str, dict[str, Difference]]:
    """Per site and arm, the difference over runs that differ in their seed only.

    Raises DataError for runs that differ in more, or when a seed is given twice for a site.
    """
    fixed = {canonical_json(run.spec.model_dump(mode="json", exclude={"seed"})) for run in runs}
    if len(fixed) != 1:
        raise DataError("The runs differ in more than their seed; they are no repeats of one analysis.")
    if runs[0].spec.candidate() not in set.intersection(*(set(run.answers.right_GC) for run in runs)):
        raise DataError("A file lacks the arm to judge beside local-only. Name federated runs.")
    found: dict[str, dict[str, Difference]] = {}
    for site in sorted({run.site for run in runs}):
        mine = [run for run in runs if run.site == site]
        if len({run.spec.seed for run in mine}) < len(mine):
            raise DataError(f"Two runs of {site} have the same seed. Name each run once.")
        spec, answers = mine[0].spec, average_seeds([run.answers for run in mine])
        classes, seed = spec.judged_classes(), min(run.spec.seed for run in mine)
        found[site] = {
            arm: compare_arms(answers, arm, classes, spec.analysis, seed=seed)
            for arm in answers.right_GC
            if arm != "local"
        }
    return found
