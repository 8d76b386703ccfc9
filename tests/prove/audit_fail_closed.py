"""Item 4 of the audit log: a hanging sink, a full disk, a stopped database. Nothing is done, within a second.

The portal runs in a process of its own on a PostgreSQL of the proof's own, and again on SQLite. Every door
behind which something is done gets a request that would be allowed; at the end the fault is gone and the same
requests are served, so that a refusal was the fault's doing.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.prove.audit_faults import (
    Portal,
    frozen,
    full_disk,
    full_disk_and_pages,
    locked_file,
    locked_table,
    small_disk,
    stopped,
    taken_away,
)
from tests.prove.own_postgresql import SMALL, running_in
from tests.prove.proof import Proof

LIMIT_S = 1.0
REFUSED = 503
# without a fault too: no proof is ready where nobody signs; a password and a code are wrong
MEANT = {"audit_proof": 404, "login refused": 422, "second_factor": 422}
UNJUDGED = "log-anchors"  # answers 503 without a fault too: nobody signs in this portal
FILLED = "PostgreSQL, full disk"
Fault = Callable[[], Any]


def acts_of(portal: Portal) -> list[dict[str, Any]]:
    return [one for one in portal.ask("acts") if one["act"] != UNJUDGED]


def try_fault(proof: Proof, portal: Portal, name: str, fault: Fault, rounds: int) -> None:
    slow, done, worst, tried = [], [], 0.0, 0
    changed: set[str] = set()
    for _round in range(rounds):
        with ExitStack() as stack:
            if name == FILLED:  # what fills it must not count as an effect
                stack.enter_context(fault())
                before = portal.ask("snapshot")
            else:
                before = portal.ask("snapshot")
                stack.enter_context(fault())
            answers = acts_of(portal)
            after = portal.ask("snapshot") if name == FILLED else None
        after = after or portal.ask("snapshot")
        tried += len(answers)
        worst = max(worst, *(float(answer["s"]) for answer in answers))
        done += [f"{one['act']} {one['status']}" for one in answers if one["status"] != REFUSED]
        slow += [f"{one['act']} {one['s']}" for one in answers if float(one["s"]) > LIMIT_S]
        for kind in ("tables", "files"):
            old, new = before[kind], after[kind]
            changed |= {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    refused = (
        f"{tried - len(done)} of {tried} refused, {tried - len(slow)} within 1 s (slowest {worst:.2f} s)"
    )
    proof.check(
        "4", f"{name}: protected acts", refused + _named(done + slow), "all, ≤ 1 s", not done and not slow
    )
    figure = f"{len(changed)} tables or files changed" + _named(sorted(changed))
    proof.check("4", f"{name}: side effects", figure, "0", not changed)


def _named(found: list[str]) -> str:
    return f"; {', '.join(found[:6])}" if found else ""


def control(proof: Proof, portal: Portal, name: str) -> None:
    """Without a fault the same requests are served: the refusals were no accident."""
    before = portal.ask("entries")
    answers = acts_of(portal)
    served = [one for one in answers if 200 <= one["status"] < 400 or one["status"] == MEANT.get(one["act"])]
    added = portal.ask("entries") - before
    figure = f"{len(served)} of {len(answers)} served, {added} entries"
    missed = [f"{one['act']} {one['status']}" for one in answers if one not in served]
    enough = len(served) == len(answers) and added >= len(answers)
    proof.check(
        "4", f"{name}, control without a fault", figure + _named(missed), "all, ≥ 1 entry each", enough
    )


def not_measured(proof: Proof, name: str, *, full: bool) -> None:
    why = "a disk of fixed size needs the right to mount"
    if full:
        proof.check("4", f"{name}: protected acts", f"not measured, {why}", "all, ≤ 1 s", passed=False)
    else:
        proof.note("4", f"{name}: not measured, {why}")


def on_postgresql(proof: Proof, rounds: int, *, full: bool) -> None:
    with ExitStack() as stack:
        disk, is_small = stack.enter_context(small_disk(256))
        (disk / "pg").mkdir()
        server = stack.enter_context(running_in(disk / "pg", SMALL, "--no-sync", "--wal-segsize=1"))
        portal = Portal(disk / "portal", server.url)
        stack.callback(portal.close)
        faults: dict[str, Fault] = {
            "PostgreSQL, the log's table held": lambda: locked_table(server),
            "PostgreSQL hangs (SIGSTOP)": lambda: frozen(server),
            "PostgreSQL stopped": lambda: stopped(server),
        }
        if is_small:
            faults[FILLED] = lambda: full_disk_and_pages(disk, portal)
        else:
            not_measured(proof, FILLED, full=full)
        for name, fault in faults.items():
            try_fault(proof, portal, name, fault, rounds)
        control(proof, portal, "PostgreSQL")


def on_sqlite(proof: Proof, rounds: int, *, full: bool) -> None:
    with small_disk(48) as (disk, is_small):
        database = disk / "portal" / "db.sqlite3"
        portal = Portal(disk / "portal", "")
        try:
            faults: dict[str, Fault] = {
                "SQLite, another writer does not end": lambda: locked_file(database),
                "SQLite, the file taken away": lambda: taken_away(database),
            }
            if is_small:
                faults["SQLite, full disk"] = lambda: full_disk(disk)
            else:
                not_measured(proof, "SQLite, full disk", full=full)
            for name, fault in faults.items():
                try_fault(proof, portal, name, fault, rounds)
            control(proof, portal, "SQLite")
        finally:
            portal.close()


def prove_fail_closed(proof: Proof, *, full: bool) -> None:
    rounds = 10 if full else 1
    on_postgresql(proof, rounds, full=full)
    on_sqlite(proof, rounds, full=full)


def prove(*, full: bool, only: list[str]) -> int:
    proof = Proof("audit-fail-closed")
    return proof.run({"4": lambda: prove_fail_closed(proof, full=full)}, only, Path("var/prove"))


if __name__ == "__main__":
    sys.exit(prove(full="--full" in sys.argv, only=[]))
