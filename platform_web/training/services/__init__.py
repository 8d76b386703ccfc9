"""Changes to studies, runs and rounds. Each public function is one transaction and one audit entry."""

from platform_web.training import acts as acts
from platform_web.training.services.approving import (
    record_decision,
    refusal_of,
    settle_approvals,
    start_with_approved,
)
from platform_web.training.services.asking import record_answer, record_question
from platform_web.training.services.following import (
    apply_line,
    begin_collection,
    complete_run,
    lease_due_runs,
    note_heard,
    note_server_answers,
    note_silence,
    release_run,
)
from platform_web.training.services.resuming import (
    interrupt_run,
    note_rejoin_asked,
    resume_run,
    take_up_failed_work,
)
from platform_web.training.services.runs import (
    RunRequest,
    fail_run,
    record_stopped,
    start_run,
    stop_run,
)
from platform_web.training.services.studies import open_study
from platform_web.training.services.submitting import (
    draft_spec,
    note_handing_over,
    record_spec,
    record_submitted,
)

__all__ = [
    "RunRequest",
    "apply_line",
    "begin_collection",
    "complete_run",
    "draft_spec",
    "fail_run",
    "interrupt_run",
    "lease_due_runs",
    "note_handing_over",
    "note_heard",
    "note_rejoin_asked",
    "note_server_answers",
    "note_silence",
    "open_study",
    "record_answer",
    "record_decision",
    "record_question",
    "record_spec",
    "record_stopped",
    "record_submitted",
    "refusal_of",
    "release_run",
    "resume_run",
    "settle_approvals",
    "start_run",
    "start_with_approved",
    "stop_run",
    "take_up_failed_work",
]
