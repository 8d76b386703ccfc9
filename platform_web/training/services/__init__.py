"""Changes to studies, runs and rounds. Each public function is one transaction and one audit entry."""

from platform_web.training import acts as acts
from platform_web.training.services.following import (
    apply_line,
    begin_collection,
    complete_run,
    lease_due_runs,
    release_run,
)
from platform_web.training.services.runs import (
    RunRequest,
    fail_abandoned_runs,
    fail_run,
    record_spec,
    record_stopped,
    record_submitted,
    start_run,
    stop_run,
)
from platform_web.training.services.studies import open_study

__all__ = [
    "RunRequest",
    "apply_line",
    "begin_collection",
    "complete_run",
    "fail_abandoned_runs",
    "fail_run",
    "lease_due_runs",
    "open_study",
    "record_spec",
    "record_stopped",
    "record_submitted",
    "release_run",
    "start_run",
    "stop_run",
]
