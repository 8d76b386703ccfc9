"""NVFlare's door to a site's session: tasks in, contributions out, files only below the site's home."""

from pathlib import Path

import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from fl_jobs.errors import FLJobError, SharedStateError, SpecError
from fl_jobs.flare import wire
from fl_jobs.flare.parent_watch import exit_with_parent
from fl_jobs.flare.site_home import find_site_home, shares_site_metrics
from fl_jobs.packaging.job import read_spec
from fl_jobs.site_session import SiteSession


class ConsiliumExecutor(Executor):
    """Carries out the orders of one run; the session lives as long as the job process."""

    def __init__(self, run_id: str, run_digest: str) -> None:
        super().__init__()
        self._run_id, self._run_digest = run_id, run_digest
        self._session: SiteSession | None = None
        self._refusal = "The site has not begun the run."

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Read data and build the models when the run starts; a reason not to is kept for the first task."""
        if event_type != EventType.START_RUN:
            return
        exit_with_parent()
        torch.set_num_threads(1)  # sites share a machine in the demo; 1 thread measured 10x faster there
        try:
            self._session = self._open_session(fl_ctx)
        except FLJobError as error:
            self._refusal = _sentence(error)
            self.log_error(fl_ctx, f"the run cannot start here: {error}")

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Return the site's contribution, or a refusal whose sentence holds nothing of the site's data."""
        if self._session is None:
            return wire.refusal(self._refusal)
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        try:
            order = wire.order_from_shareable(shareable, self._run_digest)
            if order.name != task_name:
                raise SharedStateError("The server sent a task under another name; it was not carried out.")
            contribution = self._session.execute(order)
            return wire.contribution_to_shareable(contribution, order, self._run_digest)
        except FLJobError as error:
            self.log_error(fl_ctx, f"task {task_name} was not carried out: {error}")
            return wire.refusal(_sentence(error))

    def _open_session(self, fl_ctx: FLContext) -> SiteSession:
        folder = fl_ctx.get_engine().get_workspace().get_app_config_dir(fl_ctx.get_job_id())
        home = find_site_home()
        return SiteSession(
            read_spec(Path(folder), self._run_digest),
            run_id=self._run_id,
            site=fl_ctx.get_identity_name(),
            site_home=home,
            share_site_metrics=shares_site_metrics(home),
        )


def _sentence(error: FLJobError) -> str:
    """Keep file names and rows at the site: only errors about what the server sent travel in full."""
    if isinstance(error, SpecError | SharedStateError):
        return str(error)
    return f"The site cannot take part ({type(error).__name__}); its operator finds the reason in the log."
