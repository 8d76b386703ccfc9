"""One task to the sites and the wait for their answers; all ways in which NVFlare ends a task are alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from nvflare.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fl_jobs.flare.answers import Answers
from fl_jobs.flare.presence import Presence

_POLL_S = 0.02
NOT_ALLOWED = (
    "Its certificate does not count any more (revoked, suspended or expired); it is asked nothing and what "
    "it sends is not read."
)


class StoppedError(Exception):
    """NVFlare ends the job: somebody stopped it, or too few machines are alive."""


class Exchange:
    """Asks the run's sites through ``controller``. OK, TIMEOUT and CLIENT_DEAD of a task mean the same.

    ``allows`` says whether a site's certificate counts now. NVFlare's own means end a site's session with the
    parent process and leave its job process in the run, so it is asked before every task and at every answer.
    """

    def __init__(
        self,
        controller: Controller,
        sites: list[str],
        presence: Presence,
        abort_signal: Signal,
        fl_ctx: FLContext,
        *,
        task_timeout_s: int,
        allows: Callable[[str], bool],
    ) -> None:
        self._controller, self._sites, self._presence = controller, sites, presence
        self._abort_signal, self._fl_ctx = abort_signal, fl_ctx
        self._task_timeout_s, self._allows = task_timeout_s, allows

    def at_work(self) -> list[str]:
        """The run's sites whose job process may still answer."""
        present = {client.name for client in self._fl_ctx.get_engine().get_clients()}
        here = [site for site in self._sites if site in present and self._allows(site)]
        alive = [site for site in here if not self._controller.get_client_disconnect_time(site)]
        gone = self._presence.gone(alive)
        return [site for site in alive if site not in gone]

    def lost(self) -> list[str]:
        """The run's sites whose job process will not answer in this NVFlare job any more."""
        return sorted(set(self._sites) - set(self.at_work()))

    def broadcast(self, name: str, data: Shareable, answers: Answers[Any]) -> None:
        """Send the same to all targets and wait as long as ``answers`` finds it of use.

        Raises StoppedError.
        """
        self._exclude(answers)
        targets = sorted(answers.targets - answers.refusals.keys())
        if not targets:  # NVFlare would take "no targets" for everybody
            return
        task = self._task(name, data, answers)
        self._controller.broadcast(
            task=task, fl_ctx=self._fl_ctx, targets=targets, min_responses=len(targets)
        )
        self._wait([task], answers)

    def send_each(self, name: str, payloads: Mapping[str, Shareable], answers: Answers[Any]) -> None:
        """Send each target its own.

        One task a site: NVFlare gives the first client's payload of a broadcast to everybody.
        """
        tasks = []
        self._exclude(answers)
        for site, data in payloads.items():
            if site in answers.refusals:
                continue
            tasks.append(self._task(name, data, answers))
            self._controller.send(task=tasks[-1], fl_ctx=self._fl_ctx, targets=[site])
        self._wait(tasks, answers)

    def _task(self, name: str, data: Shareable, answers: Answers[Any]) -> Task:
        fetched: Callable[..., None] = answers.note_fetched

        def receive(client_task: ClientTask, fl_ctx: FLContext) -> None:
            if self._allows(client_task.client.name):
                answers.receive(client_task, fl_ctx)
            else:
                answers.exclude(client_task.client.name, NOT_ALLOWED)

        return Task(
            name=name,
            data=data,
            timeout=self._task_timeout_s,
            after_task_sent_cb=fetched,
            result_received_cb=receive,
        )

    def _exclude(self, answers: Answers[Any]) -> None:
        """A site that may not take part any more has answered: nobody waits for it."""
        for site in answers.targets:
            if not self._allows(site):
                answers.exclude(site, NOT_ALLOWED)

    def _wait(self, tasks: list[Task], answers: Answers[Any]) -> None:
        begun = time.monotonic()
        while any(task.completion_status is None for task in tasks):
            waited_s = time.monotonic() - begun
            self._exclude(answers)
            if answers.are_enough(waited_s) or answers.cannot_suffice(self._presence.gone(answers.targets)):
                break
            if self._abort_signal.triggered:
                self._cancel(tasks, TaskCompletionStatus.ABORTED)
                raise StoppedError
            time.sleep(_POLL_S)
        self._cancel(tasks, TaskCompletionStatus.OK)

    def _cancel(self, tasks: list[Task], status: TaskCompletionStatus) -> None:
        for task in tasks:
            if task.completion_status is None:
                self._controller.cancel_task(task, status)
