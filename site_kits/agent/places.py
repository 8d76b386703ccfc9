"""Where inference and console listen: where the operator says, else where they did last time."""

import os
import socket
from dataclasses import dataclass

from site_kits.errors import AgentError
from site_kits.ports import is_free
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.translation import _

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class InferencePlace:
    """``address`` is for this machine, ``url`` what browsers of the institution are told."""

    host: str
    port: int
    address: str
    url: str


def inference_place(home: SiteHome) -> InferencePlace:
    """Raises AgentError when the port asked for is taken or none."""
    host = os.environ.get("CONSILIUM_INFERENCE_HOST", LOOPBACK)
    port = _port(home, "inference", host, "CONSILIUM_INFERENCE_PORT")
    local = host in (LOOPBACK, "0.0.0.0")  # noqa: S104 — compared, not bound
    address = f"http://{LOOPBACK}:{port}" if local else f"http://{host}:{port}"
    url = os.environ.get("CONSILIUM_INFERENCE_URL", "").rstrip("/") or address
    return InferencePlace(host, port, address, url)


def console_port(home: SiteHome) -> int:
    """On this machine only, whatever is asked for. Raises AgentError when the port is taken or none."""
    return _port(home, "console", LOOPBACK, "CONSILIUM_CONSOLE_PORT")


def _port(home: SiteHome, name: str, host: str, variable: str) -> int:
    """The port asked for, else the one of last time, else a free one."""
    wished = os.environ.get(variable, "")
    if wished:
        return _wished_port(wished, host, variable)
    remembered = home.state / f"{name}.json"
    port = read_state(remembered).get("port")
    if not isinstance(port, int) or not is_free(host, port):
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        write_state(remembered, {"port": port})
    return port


def _wished_port(wished: str, host: str, variable: str) -> int:
    if not wished.isdigit() or not 0 < int(wished) < 65536:
        sentence = _("{variable} must be a port number, not {x}.")
        raise AgentError(sentence.format(variable=variable, x=wished))
    if not is_free(host, int(wished)):
        sentence = _(
            "Port {port} is taken by another program. End that one or set {variable} to a free port and "
            "start again."
        )
        raise AgentError(sentence.format(port=wished, variable=variable))
    return int(wished)
