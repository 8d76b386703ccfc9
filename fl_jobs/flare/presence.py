"""When each site's job process was last heard of.

NVFlare's own book starts over when a client registers anew within its 30 s: a site that was killed and came
back keeps its place in the job, although the process that would answer is gone.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

GONE_AFTER_S = 45.0  # a job process beats every 10 s, also while it trains
STARTING_S = 600.0  # it may take long to come up on a slow machine
# NVFlare's word for a job process that has connected and now loads what it needs. It does not beat meanwhile:
# 46 s at load 12, and the run ended with all four sites "gone" a second before they were ready.
ASKS_TO_BEGIN = "syncRunner"


class Presence:
    """Fed by NVFlare with every task fetched, result and heartbeat; asked while an order is waited for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._opened = clock, clock()
        self._heard: dict[str, float] = {}

    def watch(self, communicator: Any) -> None:
        """Listen to what NVFlare's server runner tells ``communicator`` about active clients."""
        tell = communicator.client_is_active

        def note(client_name: str, reason: str, fl_ctx: Any) -> None:
            if reason != ASKS_TO_BEGIN:
                self._heard[client_name] = self._clock()
            tell(client_name, reason, fl_ctx)

        communicator.client_is_active = note

    def gone(self, sites: Iterable[str]) -> set[str]:
        """Those of ``sites`` whose job process will not answer any more."""
        now = self._clock()
        return {site for site in sites if now > self._deadline(site)}

    def _deadline(self, site: str) -> float:
        heard = self._heard.get(site)
        return self._opened + STARTING_S if heard is None else heard + GONE_AFTER_S
