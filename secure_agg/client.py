"""A site's side of FLSA-1 over one epoch: its steps, and what is on disk before each of them may be heard.

Bytes in, bytes out: the vault writes, ``now`` is the clock. Every refusal is a SecureAggregationError; one
that the server could have caused leaves the site where it was, with nothing revealed.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from numpy.typing import NDArray

from secure_agg import messages
from secure_agg.client_round import ClientRound, Step, Terms, View
from secure_agg.errors import SecureAggregationError
from secure_agg.headers import SERVER, decode_from
from secure_agg.identity import Identity, Trust
from secure_agg.keys import first_chain_key, ratchet, round_context
from secure_agg.ledger import query_id
from secure_agg.memory import Memory
from secure_agg.plan import Plan, Purpose
from secure_agg.roster import Roster, verify_roster
from secure_agg.state import ClientState, RandomBytes, Vault
from secure_agg.thresholds import apart_min, colluding_default, threshold

ADVERT_SECONDS: Final = 24 * 3600
_FIRST_ROUND: Final = 1


class Client:
    """One site in one epoch of one job. Not for two threads at once."""

    def __init__(
        self,
        *,
        identity: Identity,
        trust: Trust,
        job_id: str,
        epoch: int,
        vault: Vault,
        data_version: bytes,
        accept_plan: Callable[[Plan], None],
        now: Callable[[], int],
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        self._identity, self._trust = identity, trust
        self._job_id, self._epoch, self._data_version = job_id, epoch, data_version
        self._accept_plan, self._now, self._random_bytes = accept_plan, now, random_bytes
        self._memory = Memory(vault, identity.name, job_id, epoch, random_bytes)
        self._roster: Roster | None = None
        self._advert: messages.Advert | None = None
        self._round: ClientRound | None = None

    @property
    def name(self) -> str:
        return self._identity.name

    @property
    def roster(self) -> Roster:
        """The sites of the epoch. Raises E_NOT_FROZEN before a roster was accepted."""
        state = self._state()
        if self._roster is None:
            self._roster = Roster(messages.Roster.decode(state.roster).adverts)
        return self._roster

    # keys of the epoch

    def advert(self) -> bytes:
        """Fresh keys under this site's certificate; after a restart within the epoch the same as before."""
        if self._memory.load() is not None:
            return self.roster.adverts[self.roster.index(self.name)].encode()
        if self._advert is None:
            self._signing_key = Ed25519PrivateKey.from_private_bytes(self._random_bytes(32))
            self._agreement_key = X25519PrivateKey.from_private_bytes(self._random_bytes(32))
            unsigned = messages.Advert(
                job_id=self._job_id,
                epoch=self._epoch,
                name=self.name,
                chain=(),
                x25519_pk=self._agreement_key.public_key().public_bytes_raw(),
                ed25519_pk=self._signing_key.public_key().public_bytes_raw(),
                expiry=self._now() + ADVERT_SECONDS,
                sigalg=0,
            )
            self._advert = self._identity.sign_advert(unsigned)
        return self._advert.encode()

    def accept_roster(self, message: bytes) -> bytes:
        """Verify every peer, agree on a chain key with each, store them, and acknowledge."""
        state = self._memory.load()
        if state is not None:
            if message != state.roster:
                raise _out_of_turn("this epoch has another list of keys already")
            return self._acknowledge(state)
        if self._advert is None:
            raise _out_of_turn("a list of keys came before this site gave its own")
        roster = Roster(decode_from(messages.Roster, SERVER, message).adverts)
        pinned = verify_roster(roster, self._advert, self._trust, now=self._now())
        state = ClientState(
            job_id=self._job_id,
            epoch=self._epoch,
            name=self.name,
            pinned=pinned,
            roster=message,
            job_ctx=roster.job_ctx(self._job_id, self._epoch),
            ed25519_secret=self._signing_key.private_bytes_raw(),
            chain_keys=self._agree(roster),
            next_round=_FIRST_ROUND,
        )
        self._memory.write(state)
        del self._agreement_key
        return self._acknowledge(state)

    def _agree(self, roster: Roster) -> dict[int, bytes]:
        """The chain key of round 1 with every peer; that of step 0 is never stored."""
        own, job_ctx = roster.index(self.name), roster.job_ctx(self._job_id, self._epoch)
        chain_keys = {}
        for peer, advert in enumerate(roster.adverts):
            if peer == own:
                continue
            try:
                secret = self._agreement_key.exchange(X25519PublicKey.from_public_bytes(advert.x25519_pk))
            except ValueError:  # of low order: the secret would be zero for everybody
                reason = "its key agrees on nothing secret"
                raise SecureAggregationError("E_KEY_AUTH", site=advert.name, reason=reason) from None
            first = first_chain_key(secret, job_ctx, min(own, peer), max(own, peer))
            chain_keys[peer] = ratchet(first, _FIRST_ROUND)
        return chain_keys

    def _acknowledge(self, state: ClientState) -> bytes:
        ack = messages.RosterAck(state.job_ctx, state.pinned)
        signature = _signing_key(state).sign(ack.signed_body())
        return messages.RosterAck(state.job_ctx, state.pinned, signature).encode()

    # a round

    def begin_round(self, message: bytes, model_hash: bytes) -> Plan:
        """Check an order against what this site has itself: the model's bytes, its policy, its past."""
        state, start = self._state(), decode_from(messages.RoundStart, SERVER, message)
        if start.model_hash != model_hash:
            raise SecureAggregationError("E_CONTEXT_MISMATCH", site=SERVER, round=start.round)
        state.check_round(start.round)
        terms = self._terms(state, start)
        if _trains(terms.plan) and model_hash in state.spent:
            raise SecureAggregationError("E_MODEL_REPLAY", round=start.round)
        self._accept_plan(terms.plan)
        self._round = ClientRound(terms, _signing_key(state))
        return terms.plan

    def _terms(self, state: ClientState, start: messages.RoundStart) -> Terms:
        roster, plan = self.roster, Plan.decode(start.plan)
        own = roster.index(self.name)
        if own not in start.users or start.users[-1] >= len(roster):
            raise SecureAggregationError("E_SELF_MISSING", round=start.round)
        plan.validate()
        # The number of colluders is that of the roster: a server must not choose a smaller one, nor a
        # cohort in which the same colluders weigh more.
        if plan.colluding < colluding_default(len(roster)) or plan.site_count < len(start.users):
            reason = "it assumes fewer colluding or fewer contributing sites than there are"
            raise SecureAggregationError("E_PLAN", reason=reason)
        needed = threshold(len(start.users), plan.colluding, plan.cohort_min)
        context = round_context(state.job_ctx, start.round, start.users, start.model_hash, start.plan)
        return Terms(roster, own, start.round, start.users, plan, start.model_hash, context, needed)

    def upload(
        self, tensors: Mapping[str, NDArray[Any]], weight: int, statistics: Mapping[str, float]
    ) -> tuple[bytes, NDArray[np.uint8]]:
        """The UPLOAD message and the masked vector beside it. Once per round, whatever happens."""
        state, round_ = self._state(), self._current()
        number = round_.terms.number
        if round_.step is not Step.BEGUN:
            raise SecureAggregationError("E_ROUND_REPLAY", round=number)
        round_.step = Step.ENCODING
        chain_keys, used = state.use_round(number)
        self._memory.use(state, used)
        return round_.upload(chain_keys, self._random_bytes, tensors, weight, statistics)

    def sign_freeze(self, message: bytes) -> bytes:
        """Sign the list of survivors, once it holds and this site's ledger allows its sum."""
        state, round_ = self._state(), self._current()
        if round_.step < Step.UPLOADED:
            raise _out_of_turn("a list of survivors came before this site's upload")
        freeze = decode_from(messages.Freeze, SERVER, message)
        if round_.step > Step.UPLOADED:
            round_.refuse_second(freeze)
        if round_.terms.own not in freeze.survivors:
            self._round = None  # nothing may be asked of this round any more
            raise SecureAggregationError("E_DROPPED", round=round_.terms.number)
        view = round_.examine(freeze)
        self._note_query(round_.terms, view)
        self._memory.write(state.with_signed(round_.terms.number, view.freeze_hash))
        return round_.sign(view)

    def _note_query(self, terms: Terms, view: View) -> None:
        query = query_id(terms.plan, terms.model_hash, self._data_version)
        names = terms.roster.names_of(view.survivors)
        apart = apart_min(terms.plan.colluding, terms.plan.cohort_min)
        self._memory.change_ledger(lambda ledger: ledger.check_and_note(query, names, apart))

    def reveal(self, message: bytes) -> bytes:
        """Give the seeds of the round, against a certificate on the list of survivors this site signed."""
        state, round_ = self._state(), self._current()
        if round_.step is not Step.SIGNED:
            raise _out_of_turn("a certificate is of use once, after this site's signature")
        round_.check_certificate(decode_from(messages.Cert, SERVER, message))
        if _trains(round_.terms.plan):
            self._memory.write(state.with_spent(round_.terms.model_hash))
        return round_.reveal()

    def recover(self, message: bytes) -> bytes:
        """Shares of the seeds of survivors that fell silent, once per round."""
        round_ = self._current()
        if round_.step is Step.RECOVERED:
            raise SecureAggregationError("E_RECOVER_SCOPE", reason="this site has given its shares already")
        if round_.step is not Step.REVEALED:
            raise _out_of_turn("shares were asked for before the list of survivors was certified")
        return round_.recover(decode_from(messages.RecoverReq, SERVER, message))

    def finish_round(self, message: bytes) -> None:
        """Forget the round's secrets, and then raise E_EQUIVOCATION if the result is of other survivors."""
        result, round_ = decode_from(messages.Result, SERVER, message), self._round
        self._round = None
        if round_ is not None and not round_.is_result(result):
            raise SecureAggregationError("E_EQUIVOCATION", round=round_.terms.number)

    def _current(self) -> ClientRound:
        if self._round is None:
            raise _out_of_turn("no round is open at this site")
        return self._round

    def _state(self) -> ClientState:
        state = self._memory.load()
        if state is None:
            raise _out_of_turn("this site has no keys for this job yet")
        return state


def _trains(plan: Plan) -> bool:
    return plan.purpose is Purpose.TRAIN and bool(plan.fields)


def _signing_key(state: ClientState) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(state.ed25519_secret)


def _out_of_turn(reason: str) -> SecureAggregationError:
    return SecureAggregationError("E_NOT_FROZEN", reason=reason)
