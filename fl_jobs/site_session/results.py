"""What each arm reaches at the end of a run, and the verdict that follows by the run's own analysis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fl_jobs.algorithms.base import PersonalAlgorithm
from fl_jobs.benefit import Answers, answers_of, compare_arms, propose
from fl_jobs.benefit.difference import endpoint_interval
from fl_jobs.choosing import choose, gains
from fl_jobs.data import DataPart
from fl_jobs.evaluation import absent_labels, cutoff_for, measure, predict_probabilities, tested_sums

if TYPE_CHECKING:
    from fl_jobs.site_session.session import SiteSession

Labels = NDArray[np.int64]


class Results:
    """Collects what each arm reaches; holds the only copy of the test part."""

    def __init__(self, session: "SiteSession") -> None:
        self._session, self._spec = session, session.spec
        self.test: DataPart = session.part("test")
        self.files: dict[str, dict[str, Any]] = {}
        self.cells: dict[str, dict[str, float | None]] = {}
        self.sums: dict[str, dict[str, float]] = {}
        self._validated: dict[str, Labels] = {}
        self._tested: dict[str, Labels] = {}

    def add(self, arm: str, algorithm: PersonalAlgorithm, number: int, sha256: str) -> None:
        """Measure one arm on the test part; its threshold comes from validation."""
        validation, test = self._session.validation, self.test
        seen = predict_probabilities(algorithm, torch.from_numpy(validation.x))
        cutoff = cutoff_for(
            seen,
            validation.y,
            positive=self._spec.positive_places(),
            specificity=self._spec.analysis.specificity,
        )
        probabilities = predict_probabilities(algorithm, torch.from_numpy(test.x))
        self.files[arm] = {"round": number, "personal_sha256": sha256}
        self.cells[arm] = measure(probabilities, test.y, cutoff, endpoint=self._spec.analysis.endpoint)
        self.sums[arm] = tested_sums(probabilities, test.y)
        self._validated[arm] = seen.argmax(axis=1).astype(np.int64)
        self._tested[arm] = probabilities.argmax(axis=1).astype(np.int64)

    def test_answers(self) -> Answers:
        return self._answers(self.test, self._tested)

    def validation_answers(self) -> Answers:
        return self._answers(self._session.validation, self._validated)

    def _answers(self, part: DataPart, predicted: Mapping[str, Labels]) -> Answers:
        class_of = np.array(self._spec.class_of_label(), dtype=np.int64)
        judged = {arm: class_of[labels_N] for arm, labels_N in predicted.items()}
        return answers_of(class_of[part.y], judged, part.groups, len(self._spec.judged_classes()))

    def own_report(self) -> dict[str, Any]:
        """The part of the report that leaves only if the site shares its metrics."""
        analysis, classes, seed = self._spec.analysis, self._spec.judged_classes(), self._spec.seed
        validated = gains(self.validation_answers(), analysis.endpoint)
        chosen = choose(validated)  # before the first look at a test answer
        tested = self.test_answers()
        differences = {
            arm: compare_arms(tested, arm, classes, analysis, seed=seed)
            for arm in self._tested
            if arm != "local" and "local" in self._tested
        }
        bounds = {arm: endpoint_interval(tested, arm, analysis, seed=seed) for arm in self._tested}
        rows = {
            "train": len(self._session.training_cases.y),
            "validation": len(self._session.validation.y),
            "test": len(self.test.y),
        }
        return {
            "rows": rows,
            "cells": {
                arm: cell | {"low": bounds[arm][0], "high": bounds[arm][1]}
                for arm, cell in self.cells.items()
            },
            "differences": {
                arm: difference.as_json()
                | {"validation": {"value": validated[arm].value, "error": validated[arm].error}}
                for arm, difference in differences.items()
            },
            "proposal": propose(chosen, differences),
            "absent_labels": absent_labels(self.test.y, self._spec.study.task.labels),
        }
