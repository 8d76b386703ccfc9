"""Who answered one task, and whom it is still worth waiting for. Fed from NVFlare's threads."""

import threading
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

from nvflare.apis.controller_spec import ClientTask
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from fl_jobs.errors import AggregationError, SharedStateError
from fl_jobs.flare import wire
from secure_agg.errors import SecureAggregationError

PATIENCE = 3.0  # a site may take this many times as long as the last of the first ``needed``
T = TypeVar("T")


class Answers(Generic[T]):
    """Collects what ``accept`` makes of each target's answer.

    ``needed`` answers suffice; the others get ``grace_s`` and their share of patience (none with grace 0).
    ``accept`` raises SharedStateError, AggregationError or SecureAggregationError for an answer that cannot
    be used: that is this site's refusal and does not harm the others. ``silent`` are targets that missed the
    order before: they are waited for again as soon as they fetch this one. (A site killed and restarted
    within NVFlare's 30 s keeps its place in the job, but never answers.)
    """

    def __init__(
        self,
        targets: Iterable[str],
        needed: int,
        accept: Callable[[str, Shareable], T],
        *,
        silent: AbstractSet[str] = frozenset(),
        grace_s: float = 5.0,
    ) -> None:
        self.targets, self.needed = set(targets), needed
        self._accept, self._grace_s = accept, grace_s
        self._expected = self.targets - silent
        self._lock = threading.Lock()
        self._closed = False
        self._enough_after_s: float | None = None
        self.accepted: dict[str, T] = {}
        self.refusals: dict[str, str] = {}
        self.codes: dict[str, str] = {}  # FLSA-1's, of those refusals that have one

    def note_fetched(self, client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG002 - NVFlare's callback
        """A site has asked for this task, so it is at work."""
        with self._lock:
            self._expected.add(client_task.client.name)

    def receive(self, client_task: ClientTask, fl_ctx: FLContext) -> None:  # noqa: ARG002 - NVFlare's callback
        """Take an answer, or keep the sentence that says why there is none."""
        site, result = client_task.client.name, client_task.result
        client_task.result = None  # NVFlare would hold every site's tensors until the task is forgotten
        with self._lock:
            # under the lock to the end: what is accepted after ``close`` would be in the sum, but not counted
            answered = site in self.accepted or site in self.refusals
            if self._closed or answered or site not in self.targets:
                return
            sentence = wire.refusal_sentence(result)
            if sentence is not None:
                self._refuse(site, sentence, wire.refusal_code(result))
                return
            try:
                self.accepted[site] = self._accept(site, result)
            except (SharedStateError, AggregationError) as error:
                self._refuse(site, str(error), "")
            except SecureAggregationError as error:
                self._refuse(site, str(error), error.code)

    def exclude(self, site: str, sentence: str) -> None:
        """Expect nothing of ``site`` any more. What was accepted of it before stays: it counted then."""
        with self._lock:
            if not self._closed and site not in self.accepted and site not in self.refusals:
                self._refuse(site, sentence, "")

    def are_enough(self, waited_s: float) -> bool:
        """Return whether waiting longer is of no use: all are in, or enough and the others had their time."""
        with self._lock:
            answered = self.accepted.keys() | self.refusals.keys()
            enough = len(self.accepted) >= self.needed
            if enough and self._enough_after_s is None:
                self._enough_after_s = waited_s
            if self.targets <= answered or (enough and self._expected <= answered):
                return True
            patience_s = PATIENCE * (self._enough_after_s or 0.0) + self._grace_s if self._grace_s else 0.0
            return enough and waited_s > patience_s

    def cannot_suffice(self, gone: AbstractSet[str]) -> bool:
        """Return whether too few are left to answer, when those in ``gone`` never will."""
        with self._lock:
            still_open = self.targets - self.accepted.keys() - self.refusals.keys() - gone
            return len(self.accepted) + len(still_open) < self.needed

    def close(self) -> set[str]:
        """Take no more answers; return the targets that gave none."""
        with self._lock:
            self._closed = True
            return self.targets - self.accepted.keys() - self.refusals.keys()

    def _refuse(self, site: str, sentence: str, code: str) -> None:
        self.refusals[site] = sentence or "It gave no reason."
        if code:
            self.codes[site] = code
