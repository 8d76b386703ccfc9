"""Whether a run may run here, and go on: asked before a job starts, when it opens, and for every result.

Nothing is cached. A policy that was tightened or an approval that was withdrawn a second ago counts now.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compliance.policy import (
    MAX_POLICY_BYTES,
    Approval,
    Decision,
    Policy,
    PolicyError,
    decide,
    meet,
    parse_policy,
)
from fl_jobs.approval.job_folder import named_run, verify_files
from fl_jobs.approval.records import facts_of, read_decision, read_request
from fl_jobs.errors import NotApprovedError, SiteHomeError
from fl_jobs.packaging.spec import RunSpec

POLICY_FILE: Final = "policy.toml"


@dataclass(frozen=True)
class Admission:
    """A run that is approved now. ``policy`` is the meet of what was in force then and what is now."""

    run_id: str
    spec: RunSpec
    policy: Policy


def site_policy(home: Path) -> Policy:
    """The site's own policy as it stands on disk now. Raises SiteHomeError: then nothing runs.

    A file that says nothing about approval asks.
    """
    try:
        with (home / POLICY_FILE).open("rb") as file:
            policy = parse_policy(file.read(MAX_POLICY_BYTES + 1))
    except FileNotFoundError as error:
        raise SiteHomeError(
            f"{POLICY_FILE} is missing in the site's folder, so nothing runs. Start the site with its "
            "start.sh, which writes it."
        ) from error
    except OSError as error:
        raise SiteHomeError(
            f"{POLICY_FILE} cannot be read ({error.strerror}), so nothing runs. Make it readable."
        ) from error
    except PolicyError as error:
        raise SiteHomeError(f"{POLICY_FILE} is not valid, so nothing runs. {error}") from error
    if "mode" not in policy.approval.model_fields_set:
        return policy.model_copy(update={"approval": Approval(mode="ask")})
    return policy


def approved(home: Path, run_id: str) -> Admission:
    """The run as it was approved, if it still is. Raises NotApprovedError or SiteHomeError."""
    present, request = site_policy(home), read_request(home, run_id)
    decision = read_decision(home, run_id)
    if decision is None or decision.run_digest != request.run_digest or decision.run_id != run_id:
        raise NotApprovedError(f"Run {run_id[:8]} waits for this site's approval; nothing was started.")
    if not decision.approve:
        raise NotApprovedError(f"This site has refused run {run_id[:8]}; nothing of it runs or leaves.")
    policy = meet(present, decision.policy, request.platform_policy, request.study_policy)
    # the mode of then does not count: what a person approved stays approved, what a rule did needs the rule
    verdict = decide(facts_of(request.spec), policy.model_copy(update={"approval": present.approval}))
    if verdict.effect == "refuse" or (verdict.effect == "ask" and decision.by == "rule"):
        raise NotApprovedError(_no_longer(run_id, verdict))
    return Admission(run_id, request.spec, policy)


def admit(home: Path, app_folder: Path) -> Admission:
    """The approved run that the job in ``app_folder`` is, file by file and byte by byte.

    Raises NotApprovedError or SiteHomeError with the sentence for operator and portal.
    """
    run = named_run(app_folder)
    admission = approved(home, run.run_id)
    verify_files(app_folder, admission.spec, run)
    return admission


def _no_longer(run_id: str, verdict: Decision) -> str:
    return (
        f"This site's policy does not permit run {run_id[:8]} any more ({', '.join(verdict.rules)}); nothing "
        "of it runs or leaves."
    )
