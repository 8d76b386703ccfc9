"""Requests that wait for an answer over a connection that is gone are answered at once: send it again.

NVFlare 2.9 notices the loss in a thread of its own and tells nobody who waits: a site whose result was on its
way when the connection broke waits for the time-out (300 s) before it sends it again, and the round with it.
"""

from typing import Any

from nvflare.fuel.f3.cellnet.defs import ReturnCode
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.cellnet.utils import make_reply
from nvflare.fuel.f3.endpoint import Endpoint, EndpointMonitor, EndpointState

_LOST = "the connection to the server was lost"


class LostConnection(EndpointMonitor):
    """Tells whoever waits in ``cell`` (NVFlare's Cell) for the server that it will not answer."""

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    def state_change(self, endpoint: Endpoint) -> None:
        """NVFlare calls this with every change of a connection's other end."""
        if endpoint.state != EndpointState.DISCONNECTED or endpoint.name != FQCN.ROOT_SERVER:
            return
        for waiter in list(self._cell.requests_dict.values()):
            if FQCN.split(waiter.target)[0] == FQCN.ROOT_SERVER:
                waiter.result = make_reply(ReturnCode.COMM_ERROR, error=_LOST)
                waiter.stream_error = _LOST
                waiter.in_receiving.set()


def fail_requests_when_lost(cell: Any) -> None:
    """From now on a lost connection to the server ends every request that waits for it."""
    cell.core_cell.communicator.register_monitor(LostConnection(cell))
