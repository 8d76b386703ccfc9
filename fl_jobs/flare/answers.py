"""Who answered one order, and whom it is still worth waiting for. Fed from NVFlare's threads."""

import threading
from collections.abc import Set as AbstractSet

from nvflare.apis.controller_spec import ClientTask
from nvflare.apis.fl_context import FLContext

from fl_jobs.aggregation import check_contribution
from fl_jobs.errors import AggregationError, SharedStateError
from fl_jobs.flare import wire
from fl_jobs.messages import Contribution, TaskOrder
from fl_jobs.packaging.spec import RunSpec, TensorSpec

PATIENCE = 3.0  # a site may take this many times as long as the last of the first min_sites


class Answers:
    """Collects the answers to ``order`` of ``targets``.

    ``silent`` are targets that missed the order before: they are waited for again as soon as they fetch this
    one. (A site killed and restarted within NVFlare's 30 s keeps its place in the job, but never answers.)
    """

    def __init__(
        self,
        order: TaskOrder,
        spec: RunSpec,
        targets: AbstractSet[str],
        *,
        silent: AbstractSet[str],
        grace_s: float,
    ) -> None:
        self._order, self._spec, self._grace_s = order, spec, grace_s
        self._targets, self._expected = set(targets), set(targets) - silent
        self._lock = threading.Lock()
        self._closed = False
        self._enough_after_s: float | None = None
        self.contributions: dict[str, Contribution] = {}
        self.refusals: dict[str, str] = {}

    def note_fetched(self, client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG002 - NVFlare's callback
        """A site has asked for this order, so it is at work."""
        with self._lock:
            self._expected.add(client_task.client.name)

    def receive(self, client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG002 - NVFlare's callback
        """Keep a usable contribution; anything else is this site's refusal and does not harm the others."""
        site, result = client_task.client.name, client_task.result
        client_task.result = None  # NVFlare would hold every site's tensors until the task is forgotten
        sentence, contribution = wire.refusal_sentence(result), None
        if sentence is None:
            try:
                contribution = wire.contribution_from_shareable(result, self._order, self._spec.digest())
                check_contribution(site, self._declared(), contribution)
            except (SharedStateError, AggregationError) as error:
                sentence = str(error)
        with self._lock:
            if self._closed:
                return
            if sentence is None and contribution is not None:
                self.contributions[site] = contribution
            else:
                self.refusals[site] = sentence or "It gave no reason."

    def are_enough(self, waited_s: float) -> bool:
        """Return whether waiting longer is of no use: all are in, or enough and the others had their time."""
        with self._lock:
            answered = self.contributions.keys() | self.refusals.keys()
            enough = len(self.contributions) >= self._spec.min_sites
            if enough and self._enough_after_s is None:
                self._enough_after_s = waited_s
            if self._targets <= answered or (enough and self._expected <= answered):
                return True
            return enough and waited_s > PATIENCE * (self._enough_after_s or 0.0) + self._grace_s

    def cannot_suffice(self, gone: AbstractSet[str]) -> bool:
        """Return whether too few are left to answer, when those in ``gone`` never will."""
        with self._lock:
            still_open = self._targets - self.contributions.keys() - self.refusals.keys() - gone
            return len(self.contributions) + len(still_open) < self._spec.min_sites

    def close(self) -> set[str]:
        """Take no more answers; return the targets that gave none."""
        with self._lock:
            self._closed = True
            return self._targets - self.contributions.keys() - self.refusals.keys()

    def _declared(self) -> dict[str, TensorSpec]:
        if self._order.name == "train":
            return self._spec.shared()
        if self._order.name != "phase":
            return {}
        shared = self._spec.shared(str(self._order.header.get("phase")))
        return {name: t for name, t in shared.items() if t.arm == self._order.header.get("arm")}
