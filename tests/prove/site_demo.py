"""Show 7 of the life of a site: the demo's sites enrol by CSR; three have a rule, one approves by hand."""

import json
import shutil

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from infra.demo.datasets import DemoSite
from tests.prove import secrets_hunt
from tests.prove.browser_walk import approve_by_clicking, page_of
from tests.prove.campaign import Campaign
from tests.prove.proof import Proof
from tests.prove.running import FOLDER
from tests.site_kits.site_doubles import wait_until

ITEM = "7"
SHOTS = FOLDER / "site-demo-screens"
ROUNDS = 5
LANGUAGES = ("en-GB", "zh-CN")


def prove_demo(proof: Proof) -> None:
    """Two runs on the demo's federation: one approved in English, one in Chinese."""
    folder = FOLDER / "site-demo"
    for each in (folder, SHOTS):
        shutil.rmtree(each, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    run, problems = Campaign(folder), list[str]()
    hand = run.journey.by_hand = run.study.sites[-1]
    try:
        run.start()
        enrolled(proof, run)
        for language in LANGUAGES:
            one_run(proof, run, hand, language, problems)
    finally:
        left = run.machine.stop()
    taken = len(list(SHOTS.glob("*.png")))
    proof.check(ITEM, "screenshots to look at", f"{taken} in {SHOTS}", "10", taken == 10)
    proof.check(ITEM, "console errors and warnings", problems or 0, "0", not problems)
    proof.check(ITEM, "processes left after the stop", left, "0", left == 0)


def enrolled(proof: Proof, run: Campaign) -> None:
    """Each certificate is the portal's, for the key that lies at the site and nowhere at the portal."""
    own = 0
    for site in run.study.sites:
        startup = run.machine.sites_home / site.name / "flare" / "startup"
        key = load_pem_private_key((startup / "client.key").read_bytes(), None)
        certificate, root = (
            x509.load_pem_x509_certificate((startup / name).read_bytes())
            for name in ("client.crt", "rootCA.pem")
        )
        certificate.verify_directly_issued_by(root)
        own += certificate.public_key() == key.public_key()
    needles = secrets_hunt.needles(run.machine.sites_home)
    found, _ = secrets_hunt.search(needles, [run.machine.portal_home])
    figure = f"{own} certificates fit a key made at the site, {len(found)} keys at the portal"
    fits = own == len(run.study.sites) == len(needles) and not found
    proof.check(ITEM, "the demo's sites enrol by CSR", figure, "4, 0", fits)


def one_run(proof: Proof, run: Campaign, hand: DemoSite, language: str, problems: list[str]) -> None:
    run_id = run.submit(rounds=ROUNDS, sites=run.study.sites)
    run.journey.wait_for_question(hand)
    with page_of(run, "data_scientist", None, problems, language) as page:
        page.goto(f"{run.machine.origin}/runs/{run_id}/")
        waits = page.locator("#waiting-for .pill").all_text_contents()
        page.screenshot(path=SHOTS / f"portal-{language}-waiting.png", full_page=True)
        proof.check(ITEM, f"{language}: the portal waits for", waits, hand.title, waits == [hand.title])
    said = {site.name: decided_by(run, site, run_id) for site in run.study.sites}
    rules = [by for name, by in said.items() if name != hand.name]
    proof.check(ITEM, f"{language}: decided by", said, "3 by rule, 1 not yet",
                rules == ["rule"] * 3 and said[hand.name] == "")  # fmt: skip
    done = approve_by_clicking(run, hand, run_id, SHOTS, language)
    problems += done.problems
    with page_of(run, "data_scientist", None, problems, language) as page:
        page.goto(f"{run.machine.origin}/runs/{run_id}/")
        page.wait_for_selector(f"#approvals tr[data-site={hand.name}] .pill.good", timeout=30_000)
        page.screenshot(path=SHOTS / f"portal-{language}-approved.png", full_page=True)
    data = run.wait_end(run_id)
    spec = json.loads(
        (run.machine.sites_home / hand.name / "requests" / run_id / "request.json").read_text()
    )["spec"]
    declared = sorted(f"{one['arm']}/{one['name']}" for one in spec["tensors"])
    same = done.tensors == declared and done.digest == data["run_digest"]
    figure = f"{len(done.tensors)} of {len(declared)} tensors, digest {done.digest[:12]}"
    proof.check(ITEM, f"{language}: what the page listed is what the run declares", figure, "equal", same)
    proof.check(
        ITEM, f"{language}: clicks from the console's first page", done.clicks, "≤ 3", done.clicks <= 3
    )
    by = wait_until(lambda: decided_by(run, hand, run_id), 5)
    sites = sorted(data["rounds"][-1]["sites"]) if data["rounds"] else []
    figure = f"{data['state']}, {len(data['rounds'])} rounds, {len(sites)} sites in the last, by {by}"
    good = data["state"] == "COMPLETED" and len(data["rounds"]) == ROUNDS and len(sites) == 4
    proof.check(ITEM, f"{language}: the run goes on and completes", figure, "5 rounds, 4 sites, by person",
                good and by == "person")  # fmt: skip


def decided_by(run: Campaign, site: DemoSite, run_id: str) -> str:
    """ "rule", "person" or nothing yet, as it lies at the site."""
    path = run.machine.sites_home / site.name / "requests" / run_id / "decision.json"
    return str(json.loads(path.read_text())["by"]) if path.exists() else ""
