"""``python -m site_kits.console``: the operator's console, one process, started and watched by the agent."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from granian.constants import Interfaces
from granian.server.embed import Server

from site_kits.console.app import create_app
from site_kits.ports import is_free
from site_kits.site_home import SiteHome
from site_kits.translation import _

log = logging.getLogger("consilium.console")

EXIT_REFUSED = 2
HOST = "127.0.0.1"
_MAX_REQUESTS = 16


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; 2 with a sentence when that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m site_kits.console")
    parser.add_argument("--home", required=True)
    parser.add_argument("--port", type=int, required=True)
    parsed = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if not is_free(HOST, parsed.port):
        sentence = _("Port {port} is taken by another program. Set CONSILIUM_CONSOLE_PORT to a free one.")
        sys.stderr.write(sentence.format(port=parsed.port) + "\n")
        return EXIT_REFUSED
    asyncio.run(_serve(SiteHome(Path(parsed.home)), parsed.port))
    return 0


async def _serve(home: SiteHome, port: int) -> None:
    interface = Interfaces.ASGINL  # no lifespan: nothing is opened before the first request
    app = create_app(home)
    server = Server(
        app, address=HOST, port=port, interface=interface, backpressure=_MAX_REQUESTS, log_access=False
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    log.info("listening on %s port %d", HOST, port)
    await server.serve()


if __name__ == "__main__":
    raise SystemExit(main())
