"""What a site permits, as the contents of NVFlare's ``local/*.json``: the second fence. Plain data.

NVFlare's client reads ``authorization.json`` and the names of privacy scopes when it starts, its job
processes ``privacy.json`` and the class list of ``resources.json`` when they start. So what stands here
holds without our launcher and without ``policy.toml``. A policy that is tightened counts sooner, at the gate
(docs/adr/0020).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from compliance.policy import Policy
from site_kits.errors import AgentError

SCOPE: Final = "consilium"
CLOSED_SCOPE: Final = "closed"  # a file without any scope would permit every one
SUBMITTER: Final = "runs"  # the portal's one identity that submits
FILES: Final = ("authorization.json", "privacy.json", "resources.json")
JOB_CLASSES: Final = ("fl_jobs.flare.executor.ConsiliumExecutor",)

NO_RIGHT: Final = {
    "submit_job": "none",
    "clone_job": "none",
    "manage_job": "none",
    "download_job": "none",
    "view": "none",
    "app_command": "none",
    "operate": "none",
    "shell_commands": "none",
    "byoc": "none",
    "server-predeployed-flwr": "none",
}

Place = Literal["listed", "output", "gate"]
# listed: decided when the files are written, only runs that keep to it stand in privacy.json
# output: the filter of privacy.json compares every result with it
# gate:   no file of NVFlare can ask a person; the launcher that resources.json names does
PLACES: Final[dict[str, Place]] = {
    "version": "listed",
    "cohort.min_sites": "listed",
    "studies.allow": "listed",
    "studies.deny": "listed",
    "algorithms.allow": "listed",
    "algorithms.deny": "listed",
    "privacy.secure_aggregation": "listed",
    "privacy.differential_privacy": "listed",
    "privacy.epsilon": "listed",
    "privacy.delta": "listed",
    "output.share_site_metrics": "output",
    "output.max_answer_bytes": "output",
    "output.max_rounds": "listed",
    "approval.mode": "gate",
}


class FenceError(AgentError):
    """The policy says something that no file of NVFlare and no gate of ours would enforce."""


@dataclass(frozen=True)
class PermittedRun:
    """A run the site approved. ``policy``: the meet of platform, study and site under which it may run."""

    run_id: str
    run_digest: str
    policy: Policy


def fence_files(site: Policy | None, runs: Iterable[PermittedRun]) -> dict[str, dict[str, Any]]:
    """File name → content. ``site`` is the site's own policy; None where there is none that can be used.

    Raises FenceError for a policy with a field that has no place here: none is dropped in silence.
    """
    _check_places(site)
    closed = site is None or permits_nothing(site)
    listed = [] if closed else sorted(runs, key=lambda run: run.run_id)
    contents = (
        _authorization(is_closed=closed),
        _privacy(CLOSED_SCOPE if closed else SCOPE, listed),
        _resources([] if closed else list(JOB_CLASSES)),
    )
    return dict(zip(FILES, contents, strict=True))


def permits_nothing(policy: Policy) -> bool:
    """Whether no run at all can keep to ``policy``; then NVFlare itself refuses every job."""
    lists = (policy.studies, policy.algorithms)
    empty = any(each.allow is not None and not set(each.allow) - set(each.deny) for each in lists)
    return empty or policy.output.max_rounds == 0


def _check_places(policy: Policy | None) -> None:
    unknown = sorted(set(_fields("", policy or Policy())) ^ PLACES.keys())
    if unknown:
        raise FenceError(
            f"This version cannot put {', '.join(unknown)} of the policy into NVFlare's files; nothing runs. "
            "Install one version of all parts."
        )


def _fields(place: str, part: BaseModel) -> list[str]:
    found: list[str] = []
    for name in type(part).model_fields:
        value = getattr(part, name)
        inner = _fields(f"{place}{name}.", value) if isinstance(value, BaseModel) else [f"{place}{name}"]
        found += inner
    return found


def _authorization(*, is_closed: bool) -> dict[str, Any]:
    """Of all the rights over a site the flow needs one: that the portal's submitter deploys a job."""
    submit = "none" if is_closed else f"n:{SUBMITTER}"
    return {
        "format_version": "1.0",
        "permissions": {"project_admin": NO_RIGHT, "lead": {**NO_RIGHT, "submit_job": submit}},
    }


def _privacy(scope: str, runs: list[PermittedRun]) -> dict[str, Any]:
    """No default scope: a job that names none, or another one, is refused when it is deployed."""
    policies = {run.policy.digest(): run.policy.model_dump(mode="json") for run in runs}
    listed = {run.run_id: [run.run_digest, run.policy.digest()] for run in runs}
    permitted = {"policies": policies, "runs": listed}
    return {
        "scopes": [
            {
                "name": scope,
                "properties": {},
                "task_result_filters": [
                    {"path": "fl_jobs.flare.policy_fence.PolicyFence", "args": permitted},
                    {"path": "fl_jobs.flare.site_filter.SharedTensorFilter", "args": {}},
                ],
                "task_data_filters": [],
            }
        ]
    }


def _resources(classes: list[str]) -> dict[str, Any]:
    """Our launcher, no component that streams logs to the server, and no GPU that a job could ask for."""
    return {
        "format_version": 2,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": classes,
        "allow_log_streaming": False,
        "client": {"retry_timeout": 30, "compression": "Gzip"},
        "components": [
            {
                "id": "resource_manager",
                # the device of a site is its operator's choice (CONSILIUM_DEVICE): a job that asks is refused
                "path": "nvflare.app_common.resource_managers.gpu_resource_manager.GPUResourceManager",
                "args": {"num_of_gpus": 0, "mem_per_gpu_in_GiB": 0, "expiration_period": 300},
            },
            {
                "id": "resource_consumer",
                "path": "nvflare.app_common.resource_consumers.gpu_resource_consumer.GPUResourceConsumer",
                "args": {},
            },
            {
                "id": "process_launcher",
                "path": "fl_jobs.flare.launcher.TolerantClientProcessJobLauncher",
                "args": {},
            },
        ],
    }
