"""The last task: the test part is read once, each arm is measured, and the site's model files are written.

The ``tuned`` arm is the chosen FedAvg aggregate after as many local steps as one round has.
"""

from typing import TYPE_CHECKING, Any

from fl_jobs.algorithms.base import TRAIN
from fl_jobs.benefit.evidence import EVIDENCE, Evidence
from fl_jobs.messages import TUNED, TaskOrder
from fl_jobs.packaging.spec import Arm
from fl_jobs.site_session.arms import personal_part, whole_model
from fl_jobs.site_session.results import Results
from fl_jobs.tensor_files import shared_part, write_bytes

if TYPE_CHECKING:
    from fl_jobs.site_session.session import SiteSession

OWN = ("rows", "cells", "differences", "proposal", "absent_labels")  # what a site may keep to itself
Sums = dict[str, dict[str, float]]


def finish(session: "SiteSession", order: TaskOrder) -> tuple[dict[str, Any], Sums]:
    """The site's closing report, and what it adds to the cohort's sums over the test parts.

    Of the report only the digests leave when the site's policy keeps its metrics; the rest is None then.
    Asked again for the same version (the server lost the answer) the site repeats what it wrote down: a test
    part that is read twice has been looked at.
    """
    stored = session.store.read_answer(order)
    if stored is None:
        stored = _read_test_part(session, order)
        session.store.write_answer(order, stored)
    report = stored["report"]
    if not session.share_site_metrics:
        report = report | dict.fromkeys(OWN)
    return report, stored["sums"]


def _read_test_part(session: "SiteSession", order: TaskOrder) -> dict[str, Any]:
    results = Results(session)
    shared: dict[str, str] = {}
    for arm in session.spec.arms():
        _finish_arm(session, order, arm, results)
        if part := shared_part(session.spec, arm, order.tensors):
            shared[arm] = session.store.write_shared(part)
    if "global" in session.spec.arms():
        _finish_tuned(session, order, results)
    evidence = Evidence(session.site, session.spec, results.test_answers())
    write_bytes(session.store.folder / EVIDENCE, evidence.encode(), mode=0o600)
    report = {"files": results.files, "shared_sha256": shared, **results.own_report()}
    return {"report": report, "sums": results.sums}


def _finish_arm(session: "SiteSession", order: TaskOrder, arm: Arm, results: Results) -> None:
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


def _finish_tuned(session: "SiteSession", order: TaskOrder, results: Results) -> None:
    chosen = int(order.header["chosen"]["global"])
    algorithm = session.models.load("global", order.tensors, chosen).algorithm
    session.train(algorithm, TRAIN, chosen + 1)
    sha256 = session.store.write(TUNED, chosen, whole_model(algorithm))
    results.add(TUNED, algorithm, chosen, sha256)
    session.store.prune(TUNED, {chosen})
