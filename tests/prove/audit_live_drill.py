"""Item 8 of TOPIC=audit: somebody with all rights over a running portal deletes a row; three sites object.

Portal, sequencer, signer and three sites' agents are real processes on loopback. First the attacker is the
database's administrator: he takes the triggers away, deletes one entry and puts them back. It is restored.
Then he owns the portal's machine: he deletes one entry and every trace of the tree, empties the signer's
memory (he has its key as well) and lets the platform build and sign the log anew.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from infra.demo.datasets import DemoSite
from infra.demo.person import Person, RefusedError
from tests.prove.campaign import Campaign
from tests.prove.proof import Proof, console
from tests.prove.running import FOLDER, REPOSITORY

BOUND_S = 60.0
SITES = 3
DERIVED = ("audit_cosignature", "audit_head", "audit_seq", "audit_tile", "audit_shard")
ALTERED = "Entries of this log are gone or were changed"
ITSELF = "own check finds"  # what the portal sees without any site
SAID = "A site has proven that this log was shown in two versions."
WORDS = {ALTERED: "the portal's page names it", ITSELF: "the portal's own check finds it"}
VERIFIER = REPOSITORY / "compliance" / "verify.py"


def prove(proof: Proof) -> None:
    """From the signature under the rewritten log until the third site's evidence lies on its disk."""
    folder = FOLDER / "audit-live-drill"
    shutil.rmtree(folder, ignore_errors=True)
    run = Campaign(folder)
    try:
        _start(run)
        ann = run.journey.person("administrator")
        policy = folder / "policy.txt"
        policy.write_bytes((_witness(run, run.study.sites[0]) / "policy.txt").read_bytes())
        signed = _until(lambda: min(_signed_sizes(run), default=0), "three sites to co-sign", 120)
        console.print(f"      three sites co-signed {signed} entries or more; the attack begins")
        _a_row_alone(proof, run, ann)
        _rewrite(run)
        began = time.monotonic()
        objected: dict[str, float] = {}
        seen_in_portal = None
        while time.monotonic() - began < 4 * BOUND_S and (len(objected) < SITES or seen_in_portal is None):
            page = ""
            with suppress(RefusedError):  # busy; an entry each: life goes on, the log grows past its old size
                page = ann.page("/audit/")
            if seen_in_portal is None and SAID in page:
                seen_in_portal = time.monotonic() - began
            for site in _sites(run):
                if site.name not in objected and _evidence(run, site):
                    objected[site.name] = time.monotonic() - began
            time.sleep(0.5)
        _judge(proof, run, policy, objected, seen_in_portal)
    finally:
        left = run.machine.stop()
    proof.check("8", "processes left after the stop", left, "0", left == 0)


def _start(run: Campaign) -> None:
    run.journey.study = replace(run.study, sites=_sites(run))
    run.machine.set_up()
    run.machine.start_platform()
    run.journey.wait_for_portal()
    run.journey.add_sites(_sites(run))
    run.journey.wait_online([site.name for site in _sites(run)])
    _until(lambda: len(_signed_sizes(run)) == SITES, "the witnesses' first visit", 120)


def _judge(
    proof: Proof, run: Campaign, policy: Path, objected: dict[str, float], seen_in_portal: float | None
) -> None:
    times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in objected.items())
    worst = max(objected.values(), default=float("inf"))
    in_time = len(objected) == SITES and worst <= BOUND_S
    proof.check(
        "8", "sites with evidence on their disks", times or "none", f"3 within {BOUND_S:.0f} s", in_time
    )
    shown = "never" if seen_in_portal is None else f"{seen_in_portal:.0f} s"
    is_shown = seen_in_portal is not None and seen_in_portal <= BOUND_S
    proof.check("8", "the portal's page of the log says so", shown, f"≤ {BOUND_S:.0f} s", is_shown)
    proven = sum(_is_proven(path, policy) for site in _sites(run) for path in _evidence(run, site))
    count = sum(len(_evidence(run, site)) for site in _sites(run))
    proof.check(
        "8", "evidence that verify.py proves", f"{proven} of {count}", "all", count > 0 == count - proven
    )
    stuck = [site.name for site in _sites(run) if not _says_so(run, site)]
    proof.check("8", "sites whose status tells the operator", f"{SITES - len(stuck)} of 3", "3", not stuck)


def _a_row_alone(proof: Proof, run: Campaign, ann: Person) -> None:
    """By the database's administrator, without the signer's key; put back at the end."""
    with _without_triggers(run) as link:
        [row] = link.execute("SELECT * FROM audit_event ORDER BY pk LIMIT 1 OFFSET 4")
        link.execute("DELETE FROM audit_event WHERE pk = ?", (row["pk"],))
    objected, told, shown = _who_says_it(run, ann)
    for of, times in (("that object", objected), ("that the portal tells it", told)):
        seconds = ", ".join(f"{name} {after:.0f} s" for name, after in times.items())
        in_time = len(times) == SITES and max(times.values()) <= BOUND_S
        claim = f"one row deleted, with the database alone: sites {of}"
        proof.check("8", claim, seconds or "none", f"3 within {BOUND_S:.0f} s", in_time)
    for words, claim in WORDS.items():
        after = shown.get(words, float("inf"))
        proof.check("8", claim, f"{after:.0f} s", f"≤ {BOUND_S:.0f} s", after <= BOUND_S)
    with _without_triggers(run) as link:
        marks = ", ".join("?" * len(row))
        link.execute(f"INSERT INTO audit_event VALUES ({marks})", tuple(row))
    _until(lambda: not any(_objections(run, site) for site in _sites(run)), "all to agree", 120)


def _who_says_it(run: Campaign, ann: Person) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Seconds until sites object, sites are told by the portal, and WORDS stand on the portal's page."""
    began = time.monotonic()
    objected: dict[str, float] = {}
    told: dict[str, float] = {}
    shown: dict[str, float] = {}
    while time.monotonic() - began < 2 * BOUND_S and len(objected) + len(told) + len(shown) < 2 * SITES + 2:
        for site in _sites(run):
            problems = _problems(run, site)
            if "LOST OR CHANGED" in problems.get("stored log", ""):
                objected.setdefault(site.name, time.monotonic() - began)
            if "THE PORTAL ITSELF SAYS" in problems.get("portal's check", ""):
                told.setdefault(site.name, time.monotonic() - began)
        with suppress(RefusedError):
            page = ann.page("/audit/")
            for words in WORDS:
                if words in page:
                    shown.setdefault(words, time.monotonic() - began)
        time.sleep(0.5)
    return objected, told, shown


@contextmanager
def _without_triggers(run: Campaign) -> Iterator[sqlite3.Connection]:
    """The portal's database, as its administrator may have it for a moment."""
    database = next(run.machine.portal_home.glob("*.sqlite3"))
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as link:
        link.row_factory = sqlite3.Row
        triggers = link.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        link.execute("BEGIN IMMEDIATE")
        for name, _sql in triggers:
            link.execute(f'DROP TRIGGER "{name}"')
        yield link
        for _name, sql in triggers:
            link.execute(sql)
        link.execute("COMMIT")


def _rewrite(run: Campaign) -> None:
    """As root: stop the sequencer, rewrite, empty the signer's memory, let both go on."""
    pids = run.platform_pids()
    sequencer, signer = pids["sequencer"]["pid"], pids["signer"]["pid"]
    os.kill(sequencer, signal.SIGSTOP)
    time.sleep(1.0)  # what the signer was asked last has been answered
    database = next(run.machine.portal_home.glob("*.sqlite3"))
    with _without_triggers(run) as link:
        [(number, act)] = link.execute("SELECT pk, act FROM audit_event ORDER BY pk LIMIT 1 OFFSET 4")
        link.execute("DELETE FROM audit_event WHERE pk = ?", (number,))
        for table in DERIVED:
            link.execute(f"DELETE FROM {table}")
    console.print(f"      deleted: entry number {number} ({act}) and every trace of the tree")
    (run.machine.portal_home / "signer" / "state.json").write_text("{}")
    os.kill(signer, signal.SIGKILL)  # the supervisor starts it again, without a memory
    os.kill(sequencer, signal.SIGCONT)
    _until(lambda: _has_head(database), "the rewritten log to be signed", 60)


def _has_head(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=30)) as link:
        return bool(link.execute("SELECT count(*) FROM audit_head").fetchone()[0])


def _sites(run: Campaign) -> tuple[DemoSite, ...]:
    return run.study.sites[:SITES]


def _witness(run: Campaign, site: DemoSite) -> Path:
    return run.machine.sites_home / site.name / "state" / "witness"


def _evidence(run: Campaign, site: DemoSite) -> list[Path]:
    return sorted(_witness(run, site).glob("evidence-*.txt"))


def _signed_sizes(run: Campaign) -> list[int]:
    sizes = []
    for site in _sites(run):
        for path in _witness(run, site).glob("[0-9][0-9][0-9][0-9].json"):
            size = json.loads(path.read_text(encoding="utf-8")).get("size", 0)
            sizes += [size] if size else []
    return sizes


def _says_so(run: Campaign, site: DemoSite) -> bool:
    return "CONTRADICTS ITSELF" in _problems(run, site).get("witness", "")


def _objections(run: Campaign, site: DemoSite) -> set[str]:
    return {"stored log", "portal's check"} & set(_problems(run, site))


def _problems(run: Campaign, site: DemoSite) -> dict[str, str]:
    status = json.loads((run.machine.sites_home / site.name / "state" / "status.json").read_text("utf-8"))
    problems: dict[str, str] = status.get("problems", {})
    return problems


def _is_proven(evidence: Path, policy: Path) -> bool:
    command = [sys.executable, "-I", str(VERIFIER), "--evidence", str(evidence), "--policy", str(policy)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _until(holds: Callable[[], object], what: str, limit_s: float) -> object:
    deadline = time.monotonic() + limit_s
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {limit_s:.0f} s for {what}")
        time.sleep(0.3)
    return found
