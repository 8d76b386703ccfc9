"""``python -m tests.legs``: what ``make test`` runs.

First everything on what a user's machine has (SQLite, Celery over files). Then, where a PostgreSQL server
and a broker answer on this machine, the portal's tests again on them. Closes with pytest's own last line.
"""

import os
import socket
import subprocess
import sys

PORTAL_TESTS = ("tests/platform_web", "tests/compliance/test_audit_cli.py")
POSTGRESQL = ("127.0.0.1", 5432)
BROKERS = {
    "redis://127.0.0.1:6379/9": ("127.0.0.1", 6379),
    "amqp://guest:guest@127.0.0.1:5672//": ("127.0.0.1", 5672),
}


def answers(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(address) == 0


def run(title: str, *arguments: str, **settings: str) -> int:
    print(f"\n== {title}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", **settings}
    return subprocess.run(command, env=environment).returncode


def main() -> int:
    extra = sys.argv[1:]
    without = {"DATABASE_URL": "", "CELERY_BROKER_URL": ""}
    failed = run("everything, on SQLite and files", *extra, **without)
    servers = os.environ.get("CONSILIUM_TEST_SERVERS", "1") != "0"
    broker = next((url for url, address in BROKERS.items() if answers(address)), None)
    if servers and not extra and answers(POSTGRESQL):
        leg = {
            "DATABASE_URL": "postgres://postgres@127.0.0.1:5432/postgres",
            "CELERY_BROKER_URL": broker or "",
        }
        name = f"the portal again, on PostgreSQL and {(broker or 'files').split(':')[0]}"
        failed = run(name, "-m", "not browser", *PORTAL_TESTS, **leg) or failed
    return failed


if __name__ == "__main__":
    sys.exit(main())
