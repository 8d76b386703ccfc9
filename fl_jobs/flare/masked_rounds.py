"""A run's orders under FLSA-1 over NVFlare: one roster for the epoch, then three steps for every order.

The upload answers the order itself. What follows it needs a site's job process alive: its signature on the
one set of survivors, then the seeds of this round. A site lost after its upload is recovered by the others.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from nvflare.apis.shareable import Shareable

from fl_jobs.errors import AggregationError, RunInterruptedError
from fl_jobs.flare import wire
from fl_jobs.flare.answers import Answers
from fl_jobs.flare.cohorts import Cohorts
from fl_jobs.flare.exchange import Exchange
from fl_jobs.flare.rounds import TOO_FEW, Answered, check_enough
from fl_jobs.masking.plans import CLIP_BITS, first_clip, make_plan
from fl_jobs.masking.sums import gathered_from, was_clipped
from fl_jobs.messages import TaskOrder
from fl_jobs.packaging.spec import RunSpec
from secure_agg.errors import SecureAggregationError
from secure_agg.model_hash import model_hash
from secure_agg.plan import Plan
from secure_agg.server import ServerEpoch
from secure_agg.server_round import ServerRound

# waiting for the missing sites to come back can help; every other code is a fault that would come again
RESUMABLE = frozenset(
    {"E_COHORT_TOO_SMALL", "E_NO_QUORUM", "E_RECOVERY_FAILED", "E_TIMEOUT", "E_DIFFERENCING"}
)
T = TypeVar("T")
Upload = tuple[dict[str, Any], str]  # the open part, SHA-256 of the masked vector


class MaskedRounds:
    """One epoch. ``gather`` raises RunInterruptedError, AggregationError or StoppedError."""

    def __init__(
        self, exchange: Exchange, spec: RunSpec, epoch: ServerEpoch, cohorts: Cohorts, *, grace_s: float
    ) -> None:
        self._exchange, self._spec, self._epoch, self._grace_s = exchange, spec, epoch, grace_s
        self._cohorts = cohorts
        self._orders = 0  # FLSA-1 counts the orders of an epoch; a number is never used twice
        self._extra_clip = 0
        self._silent: set[str] = set()
        self.absent: set[str] = set()
        self._finished: ServerRound | None = None
        self._result: bytes | None = None

    def set_up(self) -> dict[str, Any]:
        """Exchange keys. Returns the journal's roster record."""
        order, needed = TaskOrder("roster", 0), self._spec.min_sites
        adverts = self._answers(
            self._exchange.at_work(), needed, lambda site, got: self._epoch.add_advert(site, _read(got))
        )
        self._exchange.broadcast(wire.ADVERT, Shareable(), adverts)
        adverts.close()
        acks = self._answers(
            adverts.accepted, needed, lambda site, got: self._epoch.add_ack(site, _read(got))
        )
        if len(acks.targets) >= acks.needed:
            with _Blaming(self._exchange, adverts):
                roster = self._epoch.roster_message()
            self._exchange.broadcast(wire.ROSTER, wire.message_to_shareable(roster), acks)
        acks.close()
        acks.refusals |= adverts.refusals
        check_enough(order, acks, self._exchange)
        self.absent = adverts.targets - acks.accepted.keys() - acks.refusals.keys()
        return {"kind": "roster", "refused": acks.refusals, **self._epoch.facts()}

    def gather(self, order: TaskOrder) -> Answered:
        """One order from the upload to the sum. Nothing is revealed before the survivors are certified."""
        asked = model_hash(order.tensors)
        plan, round_ = self._begin(order, asked)
        uploads = self._uploads(order, round_)
        self._freeze(round_, plan, asked)
        self._reveal(round_)
        with _Blaming(self._exchange):
            aggregate = round_.unmask()
        if was_clipped(aggregate, order, self._spec):
            self._extra_clip = min(self._extra_clip + 1, max(CLIP_BITS))
        self._finished = round_
        open_parts = {site: open_part for site, (open_part, _sha256) in uploads.accepted.items()}
        received = {site: sha256 for site, (_open_part, sha256) in uploads.accepted.items()}
        gathered = gathered_from(aggregate, order, self._spec, open_parts)
        return Answered(gathered, uploads.refusals, received, round_.facts())

    def close(self, file_sha256: str) -> None:
        """The order's result is on disk: the next order tells the sites, which forget the round's secrets."""
        if self._finished is not None:
            self._result = self._finished.result(bytes.fromhex(file_sha256) if file_sha256 else bytes(32))

    def _begin(self, order: TaskOrder, asked: bytes) -> tuple[Plan, ServerRound]:
        at_work = set(self._exchange.at_work())
        users = [site for site in self._epoch.members if site in at_work]
        clip = min(first_clip(self._spec, order) + self._extra_clip, max(CLIP_BITS))
        self._orders += 1
        with _Blaming(self._exchange):
            count = len(self._epoch.roster.names)
            plan = make_plan(self._spec, order, site_count=count, log2_clip=clip)
            users = self._cohorts.users(plan, asked, users)
            return plan, self._epoch.begin_round(self._orders, users, plan, asked)

    def _uploads(self, order: TaskOrder, round_: ServerRound) -> Answers[Upload]:
        def accept(site: str, result: Shareable) -> Upload:
            masked = wire.masked_from_shareable(result, order, self._spec.digest())
            received = wire.numbers_sha256(result)
            round_.add_upload(site, masked.message, masked.vector)
            return masked.open_part, received

        data = wire.order_to_shareable(order, self._spec.digest())
        data[wire.FLSA_KEY] = round_.start_message
        if self._result is not None:
            data[wire.FLSA_RESULT_KEY] = self._result
        answers = self._answers(round_.users, round_.threshold, accept, silent=self._silent)
        self._exchange.broadcast(order.name, data, answers)
        self._silent = answers.close()
        self._check_refusals(answers)
        check_enough(order, answers, self._exchange)
        return answers

    def _freeze(self, round_: ServerRound, plan: Plan, asked: bytes) -> None:
        with _Blaming(self._exchange):
            frozen = round_.freeze()
        self._cohorts.note(plan, asked, frozen)
        answers = self._answers(
            frozen, round_.threshold, lambda site, got: round_.add_signature(site, _read(got))
        )
        payloads = {site: wire.message_to_shareable(message) for site, message in frozen.items()}
        self._exchange.send_each(wire.FREEZE, payloads, answers)
        answers.close()
        self._check_refusals(answers)

    def _reveal(self, round_: ServerRound) -> None:
        with _Blaming(self._exchange):
            certificate = wire.message_to_shareable(round_.certificate())
        answers = self._answers(
            round_.signed, round_.threshold, lambda site, got: round_.add_reveal(site, _read(got))
        )
        self._exchange.broadcast(wire.REVEAL, certificate, answers)
        answers.close()
        if not round_.silent:
            return
        with _Blaming(self._exchange, answers):
            request = wire.message_to_shareable(round_.recover_request())
        helpers = Answers(
            answers.accepted,
            round_.threshold,
            lambda site, got: round_.add_recovery(site, _read(got)),
            grace_s=0.0,
        )
        self._exchange.broadcast(wire.RECOVER, request, helpers)
        helpers.close()

    def _answers(
        self,
        targets: Any,
        needed: int,
        accept: Callable[[str, Shareable], T],
        *,
        silent: set[str] | None = None,
    ) -> Answers[T]:
        return Answers(targets, needed, accept, silent=silent or set(), grace_s=self._grace_s)

    def _check_refusals(self, answers: Answers[Any]) -> None:
        """When sites refuse by the protocol and too few are left, their code says what to do about it."""
        if len(answers.accepted) >= answers.needed or not answers.codes:
            return
        site, code = sorted(answers.codes.items())[0]
        _give_up(code, f"{site}: {answers.refusals[site]}", self._exchange)


class _Blaming:
    """Turns an error of the protocol into the end of this NVFlare job: for good, or until sites are back."""

    def __init__(self, exchange: Exchange, answers: Answers[Any] | None = None) -> None:
        self._exchange, self._answers = exchange, answers

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SecureAggregationError):
            reasons = sorted(self._answers.refusals.items()) if self._answers else []
            _give_up(error.code, " ".join([str(error), *(f"{s}: {r}" for s, r in reasons)]), self._exchange)


def _give_up(code: str, sentence: str, exchange: Exchange) -> None:
    missing = exchange.lost()
    if code in RESUMABLE and (missing or code == "E_DIFFERENCING"):
        raise RunInterruptedError(sentence, code=code or TOO_FEW, missing=missing)
    raise AggregationError(f"{sentence} ({code})")


def _read(result: Shareable) -> bytes:
    return wire.read_message(result)
