"""The claims that one running federation shows: processes, a fifth site, screenshots, kills, secrets."""

import json
import os
import re
import shutil
import signal
import time
from datetime import datetime
from pathlib import Path

import psutil

from tests.prove import secrets_hunt
from tests.prove.browser_walk import add_site_by_clicking, approve_by_clicking, take_screenshots
from tests.prove.campaign import FIFTH, PLATFORM, Campaign
from tests.prove.loopback import Capture, refuses_strangers, speaks_plain_text
from tests.prove.proof import Proof

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "var" / "prove"
ITEMS = {"2", "3", "4", "6", "8"}


def campaign(proof: Proof, wanted: set[str]) -> None:
    folder = FOLDER / "main-job"
    shutil.rmtree(folder, ignore_errors=True)
    run = Campaign(folder)
    capture = None
    try:
        if "6" in wanted and os.geteuid() == 0:
            capture = Capture(FOLDER / "loopback.bytes")
        run.start()
        first = run.submit(rounds=150 if "4" in wanted else 40, sites=run.study.sites)
        run.wait_round(first, 2)
        if "2" in wanted:
            proof.section("2", lambda: processes(proof, run))
        if "4" in wanted:
            proof.section("4", lambda: fifth_site(proof, run, first))
        run.wait_end(first)
        if "3" in wanted:
            live_metrics(proof, run, first)
        promoted(run, first)
        if "3" in wanted:
            proof.section("3", lambda: screenshots(proof, run, first))
        if "8" in wanted:
            proof.section("8", lambda: killing(proof, run))
        if "6" in wanted:
            proof.section("6", lambda: nothing_personal_outside(proof, run, capture))
    finally:
        if capture:
            capture.stop()
        left = run.machine.stop()
    proof.check("2", "processes left after the stop", left, "0", left == 0)


def promoted(run: Campaign, run_id: str) -> None:
    run.journey.run_id, run.journey.run = run_id, run.data(run_id)
    run.journey.promote()


def processes(proof: Proof, run: Campaign) -> None:
    lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    home = str(run.folder)
    clients = [line for line in lines if "client_train" in line and home in line]
    jobs = [line for line in lines if re.search(r"runner_process|worker_process", line) and home in line]
    named = [name for name in PLATFORM if name in run.platform_pids()]
    bound = f"all {len(PLATFORM)}"
    proof.check("2", "platform processes", ", ".join(named), bound, len(named) == len(PLATFORM))
    proof.check("2", "NVFlare clients", len(clients), "4", len(clients) == 4)
    proof.check("2", "job processes (server and sites)", len(jobs), "≥ 5", len(jobs) >= 5)
    port = run.machine.facts["flare_port"]
    root = run.machine.sites_home / run.study.sites[0].name / "rootCA.pem"
    for claim, holds in (
        ("NVFlare port refuses a TLS client without certificate", refuses_strangers(port, root)),
        ("NVFlare port does not speak plain text", not speaks_plain_text(port)),
    ):
        proof.check("2", claim, holds, "True", holds)


def fifth_site(proof: Proof, run: Campaign, active_run: str) -> None:
    before = run.platform_pids()
    state = run.data(active_run)["state"]
    began = time.monotonic()
    home, link, pin = add_site_by_clicking(run, FIFTH)
    run.machine.start_site(home, link=link, pin=pin)
    run.journey.wait_online([FIFTH.name])
    seconds = time.monotonic() - began
    still = run.data(active_run)["state"]
    proof.check(
        "4",
        "the run goes on while the site is added",
        f"{state}, {still}",
        "RUNNING",
        state == still == "RUNNING",
    )
    proof.check("4", "clicked to online", f"{seconds:.0f} s", "≤ 120 s", seconds <= 120)
    same = before == run.platform_pids()
    proof.check("4", "pids of the platform unchanged", same, "True", same)
    run.wait_end(active_run)
    second = run.submit(rounds=2, sites=(*run.study.sites, FIFTH))
    run.journey.wait_for_question(FIFTH)  # a site that nobody wrote a policy for asks
    approve_by_clicking(run, FIFTH, second, run.folder, "en-GB")
    names = set(run.wait_end(second)["rounds"][-1]["sites"])
    proof.check(
        "4",
        "sites in the next run",
        len(names),
        "5, the new one among them",
        FIFTH.name in names and len(names) == 5,
    )


def live_metrics(proof: Proof, run: Campaign, run_id: str) -> None:
    """Compare when the server wrote a round down with when the portal's row stood."""
    journal = run.machine.portal_home / "flare" / "server" / "rounds" / run_id / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    written = {line["round"]: moment(line["time"]) for line in lines if line["kind"] == "round"}
    lags = sorted(moment(row["committed"]) - written[row["number"]] for row in run.data(run_id)["rounds"])
    middle, late = lags[len(lags) // 2], lags[int(len(lags) * 0.95)]
    figure = f"median {middle:.1f} s, 95 % within {late:.1f} s of {len(lags)} rounds"
    proof.check("3", "from the server's journal to a row of the portal", figure, "95 % ≤ 3 s", late <= 3)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def screenshots(proof: Proof, run: Campaign, run_id: str) -> None:
    taken, problems = take_screenshots(run, run_id, FOLDER / "screens")
    proof.check(
        "3", "screenshots to look at", f"{len(taken)} in {FOLDER / 'screens'}", "≥ 5", len(taken) >= 5
    )
    proof.check("3", "console errors and warnings", problems or 0, "0", not problems)


def killing(proof: Proof, run: Campaign) -> None:
    rounds, victim = 60, run.study.sites[-1].name
    run_id = run.submit(rounds=rounds, sites=run.study.sites)
    run.wait_round(run_id, 2)
    for name in ("worker-default", "worker-flare", "web"):
        os.kill(run.platform_pids()[name]["pid"], signal.SIGKILL)
    killed = run.kill_site(victim)
    run.journey.wait_for_portal()
    data = run.wait_end(run_id)
    numbers = [row["number"] for row in data["rounds"]]
    proof.check(
        "8",
        "kill -9 of both workers, portal and a site",
        data["state"],
        "COMPLETED",
        data["state"] == "COMPLETED",
    )
    whole = numbers == list(range(1, rounds + 1))
    proof.check(
        "8", "rounds as rows", f"{len(numbers)} of {rounds}, each once", "none lost or doubled", whole
    )
    others = len(data["rounds"][-1]["sites"])
    proof.check(
        "8", f"sites in the last round ({killed} processes of {victim} killed)", others, "≥ 3", others >= 3
    )
    coming_back(proof, run, victim)


def coming_back(proof: Proof, run: Campaign, victim: str) -> None:
    run.machine.start_site(run.machine.sites_home / victim)
    run.journey.wait_online([victim])
    again = run.wait_end(run.submit(rounds=2, sites=run.study.sites))
    back = victim in again["rounds"][-1]["sites"]
    proof.check("8", "the killed site takes part in the next run", back, "True", back)
    audit = run.journey.verify_audit()
    verified = audit["entries"] == audit["verified"]
    proof.check(
        "8", "audit entries that verify", f"{audit['verified']} of {audit['entries']}", "all", verified
    )


def nothing_personal_outside(proof: Proof, run: Campaign, capture: Capture | None) -> None:
    needles = secrets_hunt.needles(run.machine.sites_home)
    captured = capture.stop() if capture else 0
    places = [run.machine.portal_home, run.machine.folder / "logs"]
    places += [FOLDER / "loopback.bytes"] if capture else []
    found, bytes_read = secrets_hunt.search(needles, places)
    figure = f"{len(found)} hits of {len(needles)} needles in {bytes_read / 2**20:.0f} MB"
    proof.check(
        "6", "personal tensors and site keys outside the sites", figure, "0 hits", not found and bool(needles)
    )
    control, _ = secrets_hunt.search(needles, [run.machine.sites_home])
    proof.check(
        "6", "the same search finds them at the sites", len(control), "all", len(control) == len(needles)
    )
    proof.check(
        "6", "traffic looked at", f"{captured / 2**20:.0f} MB", "> 1 MB (needs root)", captured > 2**20
    )
