"""``python -m site_kits.inference``: one process, granian inside it, started and watched by the agent."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from granian.constants import Interfaces
from granian.server.embed import Server

from site_kits.errors import SiteKitError
from site_kits.inference.app import create_app
from site_kits.manifest import KitManifest
from site_kits.ports import is_free
from site_kits.site_home import SiteHome
from site_kits.translation import _

log = logging.getLogger("consilium.inference")

EXIT_REFUSED = 2
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_MAX_REQUESTS = 32  # each may hold a body of 10 MiB


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; 2 with a sentence when that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m site_kits.inference")
    parser.add_argument("--home", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--url", default="", help="the address browsers are told, when it is another one")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    home = SiteHome(Path(parsed.home))
    try:
        manifest = KitManifest.read(home.site_json)
    except SiteKitError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_REFUSED
    if not is_free(parsed.host, parsed.port):
        sentence = _("Port {port} is taken by another program. Set CONSILIUM_INFERENCE_PORT to a free one.")
        sys.stderr.write(sentence.format(port=parsed.port) + "\n")
        return EXIT_REFUSED
    asyncio.run(serve(home, manifest, parsed))
    return 0


async def serve(home: SiteHome, manifest: KitManifest, parsed: argparse.Namespace) -> None:
    """Serve until a signal asks to stop."""
    host, port = parsed.host, parsed.port
    app = create_app(home, manifest, hosts=known_hosts(host, parsed.url))
    server = Server(
        app, address=host, port=port, interface=Interfaces.ASGI, backpressure=_MAX_REQUESTS, log_access=False
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    log.info("listening on %s port %d", host, port)
    await server.serve()


def known_hosts(host: str, url: str) -> frozenset[str] | None:
    """Names in a Host header this site answers to; None (all) when it listens on every address."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 — compared, not bound
        return None
    public = urlsplit(url).hostname
    return frozenset({*_LOOPBACK, host} | ({public} if public else set()))


if __name__ == "__main__":
    raise SystemExit(main())
