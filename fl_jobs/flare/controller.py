"""NVFlare's door to the server's session: asks the sites, commits what they answer, never loses a round."""

import time
from pathlib import Path
from typing import Any, NoReturn

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import Task, TaskCompletionStatus
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fl_jobs.errors import AggregationError, FLJobError
from fl_jobs.flare import wire
from fl_jobs.flare.answers import Answers
from fl_jobs.flare.journal import RunFolder
from fl_jobs.flare.keeping import commit_record, export_results
from fl_jobs.flare.parent_watch import exit_with_parent
from fl_jobs.flare.presence import Presence
from fl_jobs.messages import TaskOrder
from fl_jobs.packaging.job import read_spec
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.server_session import ServerSession

JOURNAL_COMMAND = "consilium.journal"
_POLL_S = 0.02


class _StoppedError(Exception):
    """Somebody stopped the job."""


class ConsiliumController(Controller):
    """Drives one ServerSession. Arguments come from ``packaging.job.write_job``."""

    def __init__(
        self,
        run_id: str,
        run_digest: str,
        epoch: int,
        start_round: int,
        sites: list[str],
        task_timeout_s: int = 86_400,
        grace_s: float = 5.0,
    ) -> None:
        super().__init__()
        self._run_id, self._run_digest, self._sites = run_id, run_digest, sites
        self._epoch, self._start_round = epoch, start_round
        self._task_timeout_s, self._grace_s = task_timeout_s, grace_s
        self._kept: RunFolder | None = None
        self._silent: set[str] = set()  # sites that missed the last order
        self._presence = Presence()

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Open the run's folder and answer the portal's questions for the journal from now on."""
        exit_with_parent()
        self._presence.watch(self.communicator)
        workspace = fl_ctx.get_engine().get_workspace()
        self._run_folder = Path(workspace.get_run_dir(fl_ctx.get_job_id()))
        self._config_folder = Path(workspace.get_app_config_dir(fl_ctx.get_job_id()))
        self._kept = RunFolder(Path(workspace.get_root_dir()) / "rounds" / self._run_id, epoch=self._epoch)
        fl_ctx.get_engine().register_app_command(JOURNAL_COMMAND, self._answer_journal)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Run to the end. Every way of ending leaves a journal line; a failure says what to do."""
        assert self._kept is not None  # noqa: S101 - start_controller ran
        try:
            self._run(self._kept, abort_signal, fl_ctx)
        except _StoppedError as stopped:
            self._kept.append({"kind": "stopped", "error": str(stopped)})
        except FLJobError as error:
            self._kept.append({"kind": "failed", "error": str(error)})
            export_results(self._kept, self._run_folder)
            self.system_panic(str(error), fl_ctx)
        else:
            export_results(self._kept, self._run_folder)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Leave everything as it is: the journal stays readable until the process ends."""

    def process_result_of_unknown_task(
        self,
        client: Client,
        task_name: str,
        client_task_id: str,  # noqa: ARG002 - NVFlare's signature
        result: Shareable,  # noqa: ARG002
        fl_ctx: FLContext,
    ) -> None:
        """Drop an answer that came after its round was closed."""
        self.log_info(fl_ctx, f"{client.name} answered {task_name} too late; left out")

    def _run(self, kept: RunFolder, abort_signal: Signal, fl_ctx: FLContext) -> None:
        spec = read_spec(self._config_folder, self._run_digest)
        previous = kept.read_round(self._start_round - 1) if self._start_round > 1 else None
        session = ServerSession(
            spec,
            start_round=self._start_round,
            previous=previous,
            records=kept.all_lines() if previous else (),
            load_round=kept.read_round,
        )
        start = {"start_round": self._start_round, "sites": self._sites, "job_id": fl_ctx.get_job_id()}
        kept.append({"kind": "start", "run_digest": self._run_digest, **start})
        while (order := session.next_order()) is not None:
            answers = self._ask(order, spec, abort_signal, fl_ctx)
            if len(answers.contributions) < spec.min_sites:
                raise AggregationError(_too_few(order, answers, spec))
            record = commit_record(kept, spec, order, session.fold(order, answers.contributions))
            missing = set(self._sites) - answers.contributions.keys() - answers.refusals.keys()
            kept.append({**record, "refused": answers.refusals, "left_out": sorted(missing)})

    def _ask(self, order: TaskOrder, spec: RunSpec, abort_signal: Signal, fl_ctx: FLContext) -> Answers:
        """Send ``order`` to all sites at work alike and wait as long as ``Answers`` finds it of use."""
        targets = self._sites_at_work(fl_ctx)
        answers = Answers(order, spec, set(targets), silent=self._silent, grace_s=self._grace_s)
        task = Task(
            name=order.name,
            data=wire.order_to_shareable(order, self._run_digest),
            timeout=self._task_timeout_s,
            after_task_sent_cb=answers.note_fetched,
            result_received_cb=answers.receive,
        )
        begun = time.monotonic()
        self.broadcast(task=task, fl_ctx=fl_ctx, targets=targets, min_responses=len(targets))
        while task.completion_status is None and not answers.are_enough(time.monotonic() - begun):
            if answers.cannot_suffice(self._presence.gone(targets)):
                break
            if abort_signal.triggered:
                self.cancel_task(task, TaskCompletionStatus.ABORTED)
                self._raise_stopped(spec, fl_ctx)
            time.sleep(_POLL_S)
        if task.completion_status is None:
            self.cancel_task(task, TaskCompletionStatus.OK)
        self._silent = answers.close()
        return answers

    def _sites_at_work(self, fl_ctx: FLContext) -> list[str]:
        """The run's sites whose job process NVFlare has not given up."""
        present = {client.name for client in fl_ctx.get_engine().get_clients()}
        return [site for site in self._sites if site in present and not self.get_client_disconnect_time(site)]

    def _raise_stopped(self, spec: RunSpec, fl_ctx: FLContext) -> NoReturn:
        """NVFlare ends a job itself once fewer than min_clients machines are alive."""
        left = self._sites_at_work(fl_ctx)
        if len(left) < spec.min_sites:
            raise AggregationError(
                f"{len(left)} sites are left and the run needs {spec.min_sites}; committed rounds are kept. "
                "Start it again when the sites are back."
            )
        raise _StoppedError("The run was stopped; its committed rounds are kept.")

    def _answer_journal(self, topic: str, data: Any, fl_ctx: FLContext) -> dict[str, Any]:  # noqa: ARG002
        since = data.get("since", 0) if isinstance(data, dict) else 0
        return self._kept.lines(since if isinstance(since, int) else 0) if self._kept else {}


def _too_few(order: TaskOrder, answers: Answers, spec: RunSpec) -> str:
    reasons = "".join(f" {site}: {sentence}" for site, sentence in sorted(answers.refusals.items()))
    return (
        f"{len(answers.contributions)} sites answered {order.name} of round {order.round_number} and the run "
        f"needs {spec.min_sites}; committed rounds are kept. Start it again when the sites are back.{reasons}"
    )
