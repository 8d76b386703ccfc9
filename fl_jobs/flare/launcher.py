"""Starts a site's job process if the site approved its run; death by a signal is a dropout, not the end."""

import logging
from pathlib import Path

from nvflare.apis.fl_constant import FLContextKey, JobConstants
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.apis.workspace import Workspace
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.app_common.job_launcher.process_launcher import ProcessHandle

from fl_jobs.approval import admit
from fl_jobs.approval.refusals import note_refusal
from fl_jobs.errors import FLJobError
from fl_jobs.flare.site_home import find_site_home

log = logging.getLogger(__name__)


class RefusedHandle(JobHandleSpec):
    """A job that never began. To NVFlare it is a process that a signal ended: the other sites go on.

    An exception in ``launch_job`` would end the job for every site (2.9: FAILED_TO_RUN).
    """

    def terminate(self) -> None:
        """There is nothing to end."""

    def poll(self) -> int:
        """Ended, and not by a fault that NVFlare would report to the server."""
        return int(JobReturnCode.UNKNOWN)

    def wait(self) -> None:
        """It is over already."""


class TolerantHandle(ProcessHandle):
    """NVFlare reports every non-zero exit to the server, which then fails the job for all sites."""

    def poll(self) -> int:
        """Return UNKNOWN for a process killed by a signal; exit codes of its own pass unchanged."""
        code = self.adapter.poll()
        if code is not None and code < 0:
            return int(JobReturnCode.UNKNOWN)
        return int(super().poll())


class TolerantClientProcessJobLauncher(ClientProcessJobLauncher):
    def launch_job(self, job_meta: dict[str, object], fl_ctx: FLContext) -> JobHandleSpec:
        """Start the job process with this process's environment, if the site approved its run."""
        workspace: Workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        job_id, home = str(job_meta.get(JobConstants.JOB_ID)), None
        try:
            home = find_site_home()
            admit(home, Path(workspace.get_app_dir(job_id)))
        except FLJobError as error:
            log.error("job %s was not started: %s", job_id, error)  # noqa: TRY400 — the sentence is all
            if home is not None:
                note_refusal(home, job_id=job_id, run_id=_named(job_meta), sentence=str(error))
            return RefusedHandle()
        return TolerantHandle(process_adapter=super().launch_job(job_meta, fl_ctx).adapter)


def _named(job_meta: dict[str, object]) -> str:
    """The run that the job's description names; only for the sentence, nothing is decided by it."""
    facts = job_meta.get("custom_props")
    return str(facts.get("run_id", "")) if isinstance(facts, dict) else ""
