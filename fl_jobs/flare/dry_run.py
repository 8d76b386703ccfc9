"""``python -m fl_jobs.flare.dry_run --home HOME --run RUN``: a requested run's first round, sent nowhere.

A site's agent starts it in a process of its own. It trains in a scratch folder, so that neither a personal
part nor an entry of the privacy ledger remains, passes the answers through the checks of the site's own
filter, and writes ``dry_run.json`` beside the request. A refusal is one sentence on the error stream and
status 2.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from compliance.policy import meet
from fl_jobs.aggregation import gather
from fl_jobs.approval import Admission, read_request, site_policy
from fl_jobs.approval.records import run_folder
from fl_jobs.device import site_device
from fl_jobs.errors import FLJobError
from fl_jobs.flare import wire
from fl_jobs.flare.executor import terms
from fl_jobs.flare.site_filter import checked
from fl_jobs.masking.plans import make_plan
from fl_jobs.messages import Contribution, TaskOrder
from fl_jobs.packaging.spec import canonical_json
from fl_jobs.privacy.ledger import FILE as LEDGER
from fl_jobs.server_session import ServerSession
from fl_jobs.site_session import SiteSession
from fl_jobs.tensor_files import write_bytes

REPORT = "dry_run.json"
LINKED = ("data", "registered", "weights")


def dry_run(home: Path, run_id: str) -> dict[str, Any]:
    """Do it and return the report. Raises FLJobError with the sentence for the operator."""
    began = time.monotonic()
    request = read_request(home, run_id)
    policy = meet(site_policy(home), request.platform_policy, request.study_policy)
    admission = Admission(run_id, request.spec, policy)
    (home / "state").mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="dry-run-", dir=home / "state"))
    try:
        _furnish(scratch, home)
        answers = _first_round(admission, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report = {
        "version": 1,
        "run_id": run_id,
        "run_digest": request.run_digest,
        "policy_digest": policy.digest(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began, 1),
        "masked": request.spec.policy.secure_aggregation,
        "answers": answers,
    }
    write_bytes(run_folder(home, run_id) / REPORT, canonical_json(report), mode=0o600)
    return report


def _furnish(scratch: Path, home: Path) -> None:
    for name in LINKED:
        if (home / name).exists():
            (scratch / name).symlink_to(home / name)
    if (home / LEDGER).exists():  # a budget that is spent must show
        (scratch / LEDGER).parent.mkdir(parents=True)
        shutil.copyfile(home / LEDGER, scratch / LEDGER)


def _first_round(admission: Admission, scratch: Path) -> list[dict[str, Any]]:
    """One-off phases and round 1, with this site as the whole cohort."""
    spec, answers = admission.spec, []
    server = ServerSession(spec)
    session = SiteSession(
        spec, run_id=admission.run_id, site="dry-run", site_home=scratch, device=site_device(),
        **terms(admission),
    )  # fmt: skip
    while (order := server.next_order()) is not None and order.name in ("phase", "train"):
        contribution = session.execute(order)
        answers.append(_answer(admission, order, contribution))
        if order.name == "train":
            break
        server.fold(order, gather(order, spec, {"dry-run": contribution}))
    return answers


def _answer(admission: Admission, order: TaskOrder, contribution: Contribution) -> dict[str, Any]:
    """What would have left. Under masks the same tensors are summed up in one vector of fixed length."""
    spec = admission.spec
    clear = spec.model_copy(update={"policy": spec.policy.model_copy(update={"secure_aggregation": False})})
    shareable = wire.contribution_to_shareable(contribution, order, clear.digest())
    _passed, line = checked(
        shareable, order.name, Admission(admission.run_id, clear, admission.policy), "dry-run"
    )
    leaving = {"lanes": contribution.lanes, **contribution.metrics}
    number_bytes = line.number_bytes
    if spec.policy.secure_aggregation:
        plan = make_plan(spec, order, site_count=spec.min_sites, log2_clip=0)
        number_bytes = plan.vector_bytes
        leaving = {key: leaving[key] for key in ("initial_sha256", "site")}  # the sums are in the vector
    return {
        "task": order.name,
        "round": order.round_number,
        "number_bytes": number_bytes,
        "tensors": [
            {"name": name, "shape": list(value.shape), "bytes": int(value.nbytes)}
            for name, value in sorted(contribution.tensors.items())
        ],
        "described": leaving,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    try:
        dry_run(asked.home.resolve(), asked.run)
    except FLJobError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
