"""Killing a site's job process at a chosen step of FLSA-1, found by reading the site's own sealed state."""

import time
from pathlib import Path

from secure_agg.errors import SecureAggregationError
from secure_agg.state import ClientState, open_state
from tests.e2e.federation import Federation, Run

STEPS = ("before upload", "after upload", "before reveal")
_POLL_S = 0.001


def read_state(home: Path, run_id: str) -> ClientState | None:
    """The site's state of the first epoch, as the site itself reads it."""
    path = home / "secagg" / f"{run_id}-e1.state"
    try:
        return open_state((home / "secagg" / "seal.key").read_bytes(), path.read_bytes())
    except (FileNotFoundError, SecureAggregationError):
        return None


def has_reached(run: Run, state: ClientState | None, step: str, number: int, spent_before: int) -> bool:
    """Whether the site is at ``step`` of FLSA-1 round ``number`` (or past it)."""
    if state is None:
        return False
    if step == "before upload":  # the order before is committed; this one is being trained
        journal = (run.folder / "journal.jsonl").read_text()
        return sum(journal.count(f'"kind": "{kind}"') for kind in ("phase", "round")) >= number - 1
    if step == "after upload":  # the state is on disk before the signature leaves, after the upload left
        return number in state.signed
    return len(state.spent) > spent_before  # noted before the seeds leave


def kill_at(
    federation: Federation, run: Run, site: str, step: str, number: int, *also: str, timeout_s: float = 90
) -> None:
    """SIGKILL the job processes of ``site`` (and of ``also``) when it is at ``step`` of round ``number``."""
    home, deadline, spent_before = federation.site_home(site), time.monotonic() + timeout_s, 0
    jobs = []
    while time.monotonic() < deadline:
        state = read_state(home, run.run_id)
        if state is None:
            jobs = []  # what runs now may still belong to the run before
            continue
        if state.next_round <= number:
            spent_before = len(state.spent)
        jobs = jobs or [job for name in (site, *also) for job in federation.sites[name].job_processes()]
        if jobs and has_reached(run, state, step, number, spent_before):
            if step == "before upload":
                time.sleep(0.05)  # into the training
            for process in jobs:
                process.kill()
            return
        time.sleep(_POLL_S)
    raise TimeoutError(f"{site} did not come to “{step}” of round {number} in {timeout_s} s")
