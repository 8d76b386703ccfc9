"""Components of NVFlare's server parent process."""

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import SystemComponents
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import RunStatus


class MarkAbandoned(FLComponent):
    """Ends the jobs that a dead server left behind.

    NVFlare 2.9 leaves them RUNNING for ever, and they can be neither aborted nor deleted; the portal waits
    for FINISHED:ABANDONED and submits the run again from the next round.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """On SYSTEM_START (the parent process only) mark every job that claims to run."""
        if event_type != EventType.SYSTEM_START:
            return
        manager = fl_ctx.get_engine().get_component(SystemComponents.JOB_MANAGER)
        if manager is None:
            return
        for job in manager.get_jobs_by_status([RunStatus.RUNNING, RunStatus.DISPATCHED], fl_ctx):
            manager.set_status(job.job_id, RunStatus.ABANDONED, fl_ctx)
            self.log_warning(fl_ctx, f"job {job.job_id} was running when the server ended: marked abandoned")
