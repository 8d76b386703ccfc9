"""A site's state and ledger behind its vault: read once, written ahead of every step that needs them."""

from collections.abc import Callable

from secure_agg.errors import SecureAggregationError
from secure_agg.ledger import Ledger, open_ledger, seal_ledger
from secure_agg.state import ClientState, RandomBytes, Vault, open_state, seal_state


class Memory:
    """What site ``name`` remembers of one epoch of one job."""

    def __init__(self, vault: Vault, name: str, job_id: str, epoch: int, random_bytes: RandomBytes) -> None:
        self._vault, self._random_bytes = vault, random_bytes
        self._name, self._job_id, self._epoch = name, job_id, epoch
        self._state: ClientState | None = None

    def load(self) -> ClientState | None:
        """The state of this epoch, None before there is one.

        Raises E_STATE_ROLLBACK for one that cannot be this site's latest.
        """
        if self._state is not None:
            return self._state
        sealed = self._vault.read_state()
        if sealed is None:
            return None
        state = open_state(self._vault.key, sealed)
        if state.name != self._name:
            raise SecureAggregationError("E_STATE_ROLLBACK", reason="it was written by another site")
        if state.job_id != self._job_id or state.epoch < self._epoch:
            return None  # of a job that is over: the next write replaces it
        if state.epoch > self._epoch:
            raise SecureAggregationError("E_STATE_ROLLBACK", reason="the job has gone on to a later epoch")
        self.change_ledger(lambda ledger: _check_age(ledger, state))
        self._state = state
        return state

    def write(self, state: ClientState) -> None:
        """Store ``state``. When that fails, this process still goes by it: the stricter of the two."""
        self._state = state
        self._vault.write_state(seal_state(self._vault.key, state, self._random_bytes))

    def use(self, before: ClientState, after: ClientState) -> None:
        """Store that a round's keys are used up, under the lock of the ledger.

        A server can start one job twice at a site. Both processes know the same keys, and the first to come
        here has the round alone: two vectors, or two signatures, under one round would open an update. Raises
        E_STATE_ROLLBACK for the other, with nothing written.
        """

        def used(ledger: Ledger) -> None:
            _check_age(ledger, before)
            self.write(after)
            ledger.mark(after.job_ctx, after.next_round)

        self.change_ledger(used)

    def change_ledger(self, change: Callable[[Ledger], None]) -> None:
        """Apply ``change`` to the site's ledger; when it raises, nothing is written."""

        def changed(sealed: bytes | None) -> bytes:
            ledger = open_ledger(self._vault.key, sealed)
            change(ledger)
            return seal_ledger(self._vault.key, ledger, self._random_bytes)

        self._vault.update_ledger(changed)


def _check_age(ledger: Ledger, state: ClientState) -> None:
    """The ledger lies in another file: a backup that brings back the state alone does not bring it back."""
    if ledger.marked(state.job_ctx) > state.next_round:
        raise SecureAggregationError("E_STATE_ROLLBACK", reason="a later round was used with the same keys")
