"""The last task: the test part is read once, each arm is measured, and the site's model files are written.

The ``tuned`` arm is the chosen FedAvg aggregate after as many local steps as one round has.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm
from fl_jobs.benefit import compare_arms, propose
from fl_jobs.data import DataPart
from fl_jobs.evaluation import absent_labels, measure, predict_probabilities, tested_sums
from fl_jobs.messages import TUNED, TaskOrder
from fl_jobs.packaging.spec import Arm
from fl_jobs.site_session.arms import personal_part, whole_model
from fl_jobs.tensor_files import shared_part

if TYPE_CHECKING:
    from fl_jobs.site_session.session import SiteSession


class _Results:
    """Collects what each arm reaches; holds the only copy of the test part."""

    def __init__(self, session: "SiteSession") -> None:
        self._session = session
        self.test: DataPart = session.part("test")
        self.files: dict[str, dict[str, Any]] = {}
        self.cells: dict[str, dict[str, float | None]] = {}
        self.sums: dict[str, dict[str, float]] = {}
        self.predicted: dict[str, NDArray[np.int64]] = {}
        self.validation_loss: dict[str, float] = {}

    def add(self, arm: str, algorithm: PersonalAlgorithm, number: int, sha256: str) -> None:
        probabilities = predict_probabilities(algorithm, torch.from_numpy(self.test.x))
        self.files[arm] = {"round": number, "personal_sha256": sha256}
        self.cells[arm] = measure(probabilities, self.test.y)
        self.sums[arm] = tested_sums(probabilities, self.test.y)
        self.predicted[arm] = probabilities.argmax(axis=1).astype(np.int64)
        self.validation_loss[arm] = self._session.measure_validation(algorithm)["val_loss"]


def finish(session: "SiteSession", order: TaskOrder) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """The site's closing report, and what it adds to the cohort's sums over the test parts.

    Of the report only the digests leave when the site's policy keeps its metrics; the rest is None then.
    """
    results = _Results(session)
    shared: dict[str, str] = {}
    for arm in session.spec.arms():
        _finish_arm(session, order, arm, results)
        if part := shared_part(session.spec, arm, order.tensors):
            shared[arm] = session.store.write_shared(part)
    if "global" in session.spec.arms():
        _finish_tuned(session, order, results)
    rows = {
        "train": len(session.training_cases.y),
        "validation": len(session.validation.y),
        "test": len(results.test.y),
    }
    own = {"rows": rows, **_verdicts(session, results)}
    report = {"files": results.files, "shared_sha256": shared}
    return report | (own if session.share_site_metrics else dict.fromkeys(own)), results.sums


def _finish_arm(session: "SiteSession", order: TaskOrder, arm: Arm, results: _Results) -> None:
    """Measure one arm. A site that joined after the chosen round writes its initial part as that round's."""
    chosen = int(order.header["chosen"][arm])
    loaded = session.models.load(arm, order.tensors, chosen)
    has_shared = bool(shared_part(session.spec, arm, order.tensors))
    if loaded.own_round is None and not has_shared:  # local-only, never trained up to the chosen round
        loaded = session.models.load(arm, order.tensors, session.spec.rounds)
        if loaded.own_round is None:
            return
        chosen = loaded.own_round
    if session.store.has(arm, chosen):
        sha256 = session.store.sha256(arm, chosen)
    else:
        sha256 = session.store.write(arm, chosen, personal_part(loaded.algorithm))
    results.add(arm, loaded.algorithm, chosen, sha256)
    session.store.prune(arm, {chosen, session.spec.rounds})


def _finish_tuned(session: "SiteSession", order: TaskOrder, results: _Results) -> None:
    chosen = int(order.header["chosen"]["global"])
    algorithm = session.models.load("global", order.tensors, chosen).algorithm
    session.train(algorithm, TRAIN, chosen + 1)
    sha256 = session.store.write(TUNED, chosen, whole_model(algorithm))
    results.add(TUNED, algorithm, chosen, sha256)
    session.store.prune(TUNED, {chosen})


def _verdicts(session: "SiteSession", results: _Results) -> dict[str, Any]:
    labels, test = session.spec.study.task.labels, results.test
    local = results.predicted.get("local")
    differences = {
        arm: compare_arms(test.y, predicted, local, test.groups, labels, seed=session.spec.seed)
        for arm, predicted in results.predicted.items()
        if arm != "local" and local is not None
    }
    return {
        "cells": results.cells,
        "differences": {arm: difference.as_json() for arm, difference in differences.items()},
        "proposal": propose(differences, results.validation_loss),
        "absent_labels": absent_labels(test.y, labels),
    }
