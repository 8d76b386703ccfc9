"""One order to the sites and what their answers add up to: in the clear, or under FLSA-1."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from nvflare.apis.shareable import Shareable

from fl_jobs.aggregation import check_contribution, gather
from fl_jobs.errors import AggregationError, RunInterruptedError
from fl_jobs.flare import wire
from fl_jobs.flare.answers import Answers
from fl_jobs.flare.exchange import Exchange
from fl_jobs.messages import Contribution, Gathered, TaskOrder
from fl_jobs.packaging.spec import RunSpec

TOO_FEW = "TOO_FEW"


@dataclass(frozen=True)
class Answered:
    """What came of one order. ``masking`` is the round's record of FLSA-1, None without masks.

    ``received``: site → SHA-256 of its numbers as they came, of every site whose answer was accepted.
    """

    gathered: Gathered
    refusals: dict[str, str]
    received: dict[str, str]
    masking: dict[str, Any] | None = field(default=None)


class Rounds(Protocol):
    """How a run asks its sites. ``gather`` raises RunInterruptedError, AggregationError, StoppedError.

    ``absent`` are sites that came too late for this NVFlare job although they may be at work.
    """

    absent: set[str]

    def set_up(self) -> dict[str, Any] | None: ...
    def gather(self, order: TaskOrder) -> Answered: ...
    def close(self, file_sha256: str) -> None: ...


class ClearRounds:
    """The server sees every site's update and adds them up."""

    def __init__(self, exchange: Exchange, spec: RunSpec, *, grace_s: float) -> None:
        self._exchange, self._spec, self._grace_s = exchange, spec, grace_s
        self._silent: set[str] = set()  # sites that missed the last order
        self.absent: set[str] = set()

    def set_up(self) -> None:
        """There is nothing to agree on."""

    def gather(self, order: TaskOrder) -> Answered:
        received: dict[str, str] = {}

        def accept(site: str, result: Shareable) -> Contribution:
            contribution = wire.contribution_from_shareable(result, order, self._spec.digest())
            check_contribution(site, order.declared(self._spec), contribution)
            received[site] = wire.numbers_sha256(result)
            return contribution

        targets, needed = self._exchange.at_work(), self._spec.min_sites
        answers = Answers(targets, needed, accept, silent=self._silent, grace_s=self._grace_s)
        if len(targets) >= needed:
            data = wire.order_to_shareable(order, self._spec.digest())
            self._exchange.broadcast(order.name, data, answers)
        self._silent = answers.close()
        check_enough(order, answers, self._exchange)
        return Answered(gather(order, self._spec, answers.accepted), answers.refusals, received)

    def close(self, file_sha256: str) -> None:
        """Nobody is told; the next order carries the aggregate."""


def check_enough(order: TaskOrder, answers: Answers[Any], exchange: Exchange) -> None:
    """Raise RunInterruptedError when too few answered because sites are gone.

    Raises AggregationError when too few could answer: then it does not help to wait for sites to come back.
    """
    if len(answers.accepted) >= answers.needed:
        return
    reasons = "".join(f" {site}: {sentence}" for site, sentence in sorted(answers.refusals.items()))
    what = (
        f"{len(answers.accepted)} sites answered {order.name} of round {order.round_number} and the run "
        f"needs {answers.needed}; committed rounds are kept."
    )
    lost = exchange.lost()
    if len(answers.targets) + len(lost) - len(answers.refusals) < answers.needed or not lost:
        raise AggregationError(f"{what} Start it again when the sites can take part.{reasons}")
    raise RunInterruptedError(
        f"{what} It goes on when the sites are back.{reasons}", code=TOO_FEW, missing=lost
    )
