"""``python -m infra.supervision``: run the platform's processes until SIGTERM or Ctrl-C."""

import argparse
import fcntl
import signal
import socket
import sys
from pathlib import Path

from infra.supervision.platform import platform_programs, settings_problem
from infra.supervision.supervisor import Supervisor, end_orphans


def main() -> int:
    """Run until stopped. Exit code 2 with a sentence when a port is taken or a setting cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder that setup_platform filled")
    parser.add_argument("--web-port", type=int, required=True)
    parser.add_argument("--agents-port", type=int, required=True)
    parser.add_argument("--flare-port", type=int, required=True)
    options = parser.parse_args()
    home = options.home.resolve()
    if not (home / "flare" / "server" / "startup").is_dir():
        return _refuse(f"{home} is not set up. Run `python manage.py setup_platform` with the same settings.")
    lock = (home / "supervision.lock").open("w")  # held until this process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _refuse(f"The platform in {home} is running already. Stop that one first (SIGTERM or Ctrl-C).")
    if problem := settings_problem(home):
        return _refuse(problem)
    end_orphans(home / "processes.json")
    for port in (options.web_port, options.agents_port, options.flare_port):
        if not _port_is_free(port):
            return _refuse(
                f"Port {port} is taken by another program. Stop that program or choose another port."
            )
    supervisor = Supervisor(
        platform_programs(home=home, web_port=options.web_port, agents_port=options.agents_port), home=home
    )
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    supervisor.run()
    return 0


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _refuse(sentence: str) -> int:
    sys.stderr.write(sentence + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
