"""NVFlare's door to a site's session: tasks in, contributions out, files only below the site's home."""

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from fl_jobs.approval import Admission, admit, site_log
from fl_jobs.device import site_device
from fl_jobs.errors import FLJobError, NotApprovedError, SharedStateError, SiteLogError, SpecError
from fl_jobs.flare import wire
from fl_jobs.flare.footprint import Footprint, payload_bytes
from fl_jobs.flare.lost_connection import fail_requests_when_lost
from fl_jobs.flare.parent_watch import exit_with_parent
from fl_jobs.flare.site_home import find_site_home, note_seen
from fl_jobs.flare.site_identity import open_mask
from fl_jobs.masking.site import SiteMask
from fl_jobs.messages import TaskOrder
from fl_jobs.privacy.ledger import Budget
from fl_jobs.site_session import SiteSession
from secure_agg.errors import SecureAggregationError


class ConsiliumExecutor(Executor):
    """Carries out the orders of one run; session and masks live as long as the job process."""

    def __init__(self, run_id: str, run_digest: str, epoch: int) -> None:
        super().__init__()
        self._run_id, self._run_digest, self._epoch = run_id, run_digest, epoch
        self._session: SiteSession | None = None
        self._mask: SiteMask | None = None
        self._refusal = "The site has not begun the run."

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Read data and build the models when the run starts; a reason not to is kept for the first task."""
        if event_type != EventType.START_RUN:
            return
        exit_with_parent()
        fail_requests_when_lost(fl_ctx.get_engine().get_cell())
        torch.set_num_threads(1)  # sites share a machine in the demo; 1 thread measured 10x faster there
        try:
            self._open(fl_ctx)
        except FLJobError as error:
            self._session, self._refusal = None, _sentence(error)
            self.log_error(fl_ctx, f"the run cannot start here: {error}")
            self._log_refusal(fl_ctx, type(error).__name__)

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Return the site's contribution, or a refusal whose sentence holds nothing of the site's data."""
        if self._session is None:
            return wire.refusal(self._refusal)
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        try:
            self._session.keep_to(**terms(self._admission(fl_ctx)))  # the policy as it is now
            if task_name.startswith(wire.PROTOCOL_PREFIX):
                return self._take_step(task_name, shareable)
            order = wire.order_from_shareable(shareable, self._run_digest)
            if order.name != task_name:
                raise SharedStateError("The server sent a task under another name; it was not carried out.")
            return self._answer(self._session, order, shareable)
        except FLJobError as error:
            self.log_error(fl_ctx, f"task {task_name} was not carried out: {error}")
            return wire.refusal(_sentence(error))
        except SecureAggregationError as error:
            self.log_error(fl_ctx, f"task {task_name} was refused ({error.code}): {error}")
            return wire.refusal(str(error), error.code)

    def _answer(self, session: SiteSession, order: TaskOrder, shareable: Shareable) -> Shareable:
        footprint = Footprint(order.tensors)
        if self._mask is None:
            with footprint.measure():
                contribution = session.execute(order)
            footprint.add_to(contribution, payload_bytes(contribution.tensors))
            return wire.contribution_to_shareable(contribution, order, self._run_digest)
        if wire.FLSA_RESULT_KEY in shareable:
            self._mask.client.finish_round(wire.read_message(shareable, wire.FLSA_RESULT_KEY))
        self._mask.begin(order, wire.read_message(shareable))
        with footprint.measure():
            contribution = session.execute(order)
            masked = self._mask.mask(contribution)
        footprint.add_to(contribution, masked.vector.nbytes)
        return wire.masked_to_shareable(masked, order, self._run_digest)

    def _take_step(self, task_name: str, shareable: Shareable) -> Shareable:
        """A step of FLSA-1 beside the orders: keys, survivors, seeds."""
        if self._mask is None:
            raise SharedStateError("This run has no secure aggregation; the task was not carried out.")
        client = self._mask.client
        if task_name == wire.ADVERT:
            return wire.message_to_shareable(client.advert())
        steps: dict[str, Callable[[bytes], bytes]] = {
            wire.ROSTER: client.accept_roster,
            wire.FREEZE: client.sign_freeze,
            wire.REVEAL: client.reveal,
            wire.RECOVER: client.recover,
        }
        if task_name not in steps:
            raise SharedStateError(f"This version does not know the task “{task_name[:40]}”.")
        answer = wire.message_to_shareable(steps[task_name](wire.read_message(shareable)))
        if task_name == wire.ROSTER:
            note_seen(find_site_home(), self._mask.peers())
        return answer

    def _open(self, fl_ctx: FLContext) -> None:
        home, site = find_site_home(), fl_ctx.get_identity_name()
        admission = self._admission(fl_ctx)
        spec = admission.spec
        masked = spec.policy.secure_aggregation
        self._log("run.started", masked=masked)  # before data are read: no entry, no run
        self._session = SiteSession(
            spec, run_id=self._run_id, site=site, site_home=home, device=site_device(), **terms(admission)
        )
        if masked:
            self._mask = open_mask(spec, run_id=self._run_id, epoch=self._epoch, site=site, home=home)

    def _log(self, act: str, **data: site_log.Scalar) -> None:
        """Raises SiteLogError."""
        entry = (act, self._run_id, None, self._run_digest, {"epoch": self._epoch} | data)
        site_log.record_all(find_site_home(), [entry])

    def _log_refusal(self, fl_ctx: FLContext, reason: str) -> None:
        try:
            self._log("run.start_refused", reason=reason)
        except SiteLogError as error:
            self.log_error(fl_ctx, str(error))

    def _admission(self, fl_ctx: FLContext) -> Admission:
        """The run as the site approved it, asked anew each time; it must be the one this job was made for."""
        app = Path(fl_ctx.get_engine().get_workspace().get_app_dir(fl_ctx.get_job_id()))
        admission = admit(find_site_home(), app)
        if (admission.run_id, admission.spec.digest()) != (self._run_id, self._run_digest):
            raise NotApprovedError("The job's files are not those it was started with; it does not go on.")
        return admission


class Terms(TypedDict):
    share_site_metrics: bool
    budget: Budget | None


def terms(admission: Admission) -> Terms:
    """What the policy means for a session."""
    privacy, budget = admission.policy.privacy, None
    if privacy.epsilon is not None and privacy.delta is not None:
        budget = Budget(privacy.epsilon, privacy.delta)
    return {"share_site_metrics": admission.policy.output.share_site_metrics, "budget": budget}


def _sentence(error: FLJobError) -> str:
    """Keep file names and rows at the site: only errors about what the server sent travel in full."""
    if isinstance(error, SpecError | SharedStateError | NotApprovedError):
        return str(error)
    return f"The site cannot take part ({type(error).__name__}); its operator finds the reason in the log."
