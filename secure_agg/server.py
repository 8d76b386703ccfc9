"""The server's side of FLSA-1: one roster for an epoch, then its rounds. It is trusted with nothing but work.

Safe to call from several threads: every step holds the lock of its epoch or round.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from secure_agg import messages
from secure_agg.errors import SecureAggregationError
from secure_agg.headers import decode_from
from secure_agg.identity import Trust, verify_advert
from secure_agg.plan import Plan
from secure_agg.roster import Roster, verify_distinct
from secure_agg.server_round import ServerRound
from secure_agg.thresholds import SMALLEST_COHORT, colluding_default, threshold


class ServerEpoch:
    """One epoch of one job. ``root_der`` lets the server leave out adverts that every site would refuse."""

    def __init__(
        self, *, job_id: str, epoch: int, root_der: bytes, cohort_min: int, now: Callable[[], int]
    ) -> None:
        self._job_id, self._epoch, self._trust, self._now = job_id, epoch, Trust(root_der), now
        self._cohort_min = max(cohort_min, SMALLEST_COHORT)
        self._lock = threading.Lock()
        self._adverts: dict[str, messages.Advert] = {}
        self._roster: Roster | None = None
        self._pinned: dict[str, bool] = {}
        self._last_round = 0

    @property
    def roster(self) -> Roster:
        """The fixed roster. Raises E_NOT_FROZEN before ``roster_message``."""
        if self._roster is None:
            raise SecureAggregationError("E_NOT_FROZEN", reason="the roster is not fixed yet")
        return self._roster

    @property
    def members(self) -> tuple[str, ...]:
        """The sites that accepted the roster."""
        return tuple(name for name in self.roster.names if name in self._pinned)

    def add_advert(self, site: str, message: bytes) -> None:
        """Take a site's keys, before the roster is fixed."""
        advert = decode_from(messages.Advert, site, message)
        if advert.name != site:
            raise SecureAggregationError("E_KEY_AUTH", site=site, reason="it speaks for another site")
        verify_advert(advert, self._trust, job_id=self._job_id, epoch=self._epoch, now=self._now())
        with self._lock:
            if self._roster is not None or site in self._adverts:
                raise SecureAggregationError("E_STALE_ADVERT", site=site, reason="it came too late")
            verify_distinct([*self._adverts.values(), advert])
            self._adverts[site] = advert

    def roster_message(self) -> bytes:
        """Fix the roster: who is not on it takes no part in this epoch."""
        with self._lock:
            if len(self._adverts) < self._cohort_min:
                raise SecureAggregationError(
                    "E_COHORT_TOO_SMALL", have=len(self._adverts), need=self._cohort_min
                )
            self._roster = self._roster or Roster.of(self._adverts.values())
            return messages.Roster(self._roster.adverts).encode()

    def add_ack(self, site: str, message: bytes) -> None:
        """A site has checked every peer's key."""
        ack, index = decode_from(messages.RosterAck, site, message), self.roster.index(site)
        if ack.job_ctx != self._job_ctx():
            raise SecureAggregationError("E_CONTEXT_MISMATCH", site=site, round=0)
        if not self.roster.is_signed(index, ack.sig, ack.signed_body()):
            raise SecureAggregationError("E_HEADER_AUTH", site=site)
        with self._lock:
            self._pinned[site] = ack.pinned

    def begin_round(self, number: int, users: Iterable[str], plan: Plan, model_hash: bytes) -> ServerRound:
        """A round of those members who are at work; its number is above every earlier one."""
        names = set(users)
        if strangers := names - set(self.members):
            reason = "it has not accepted the roster"
            raise SecureAggregationError("E_KEY_AUTH", site=min(strangers), reason=reason)
        chosen = sorted(self.roster.index(name) for name in names)
        needed = threshold(len(chosen), plan.colluding, plan.cohort_min)
        with self._lock:
            if number <= self._last_round:
                raise SecureAggregationError("E_ROUND_REPLAY", round=number)
            self._last_round = number
        start = messages.RoundStart(number, tuple(chosen), plan.encode(), model_hash)
        return ServerRound(self.roster, start, plan, self._job_ctx(), needed)

    def facts(self) -> dict[str, Any]:
        """What the receipt says about the keys; nothing secret."""
        colluding = colluding_default(len(self.roster))
        return {
            "sites": list(self.members),
            "verified": {name: "pinned" if pinned else "ca" for name, pinned in sorted(self._pinned.items())},
            "threshold": threshold(max(len(self.members), self._cohort_min), colluding, self._cohort_min),
            "colluding": colluding,
            "cohort_min": self._cohort_min,
            "roster_hash": self.roster.roster_hash.hex(),
        }

    def _job_ctx(self) -> bytes:
        return self.roster.job_ctx(self._job_id, self._epoch)
