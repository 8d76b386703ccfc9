"""Starts a site's job process so that its death by a signal is a dropout, not the end of the run."""

from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.app_common.job_launcher.process_launcher import ProcessHandle


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
        """Start the job process; it inherits this process's environment, so CONSILIUM_SITE_HOME too."""
        return TolerantHandle(process_adapter=super().launch_job(job_meta, fl_ctx).adapter)
