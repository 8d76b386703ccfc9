"""The auditor's look at both sides of a run: what each site says it sent, what the portal received."""

import re
import subprocess
import sys
import time
from pathlib import Path

from infra.demo.person import Person

MATCHED = re.compile(r"^(\d+) rounds match on both sides, (\d+) of them byte for byte", re.MULTILINE)
ATTEMPTS, PAUSE_S = 20, 3.0
COMMAND = (sys.executable, "-m", "platform_web.audit.cli", "reconcile")


def take_along(otto: Person, run_id: str, folder: Path) -> tuple[Path, Path]:
    """Bundle of the run's rounds and the witness policy, downloaded as an auditor does."""
    bundle, policy = folder / "rounds.bundle", folder / "policy.txt"
    bundle.write_text(otto.page(f"/audit/bundle/?act=round.committed&job={run_id}"), encoding="utf-8")
    policy.write_text(otto.page("/audit/policy.txt"), encoding="utf-8")
    return bundle, policy


def same_bytes(site: str, home: Path, bundle: Path, policy: Path) -> int:
    """Rounds in which the portal received, byte for byte, what the site sent; 0 when anything differs."""
    [log] = sorted((home / "state" / "log").glob("[0-9]*.sqlite3"))[-1:]
    command = [*COMMAND, site, str(log), str(bundle), "--policy", str(policy)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = MATCHED.search(ended.stdout)
    if ended.returncode or found is None or found[1] != found[2]:
        return 0
    return int(found[2])


def compare(otto: Person, run_id: str, homes: dict[str, Path], folder: Path) -> dict[str, int]:
    """Site → rounds that are the same on both sides.

    Asked again for a while: after a run it may take the sites a visit to co-sign what holds its last round.
    """
    for _ in range(ATTEMPTS):
        bundle, policy = take_along(otto, run_id, folder)
        found = {site: same_bytes(site, home, bundle, policy) for site, home in homes.items()}
        if all(found.values()):
            break
        time.sleep(PAUSE_S)
    return found
