"""What people do with a mouse: add a site, look at every page. Chromium, headless."""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from infra.demo.datasets import DemoSite, write_dataset
from infra.demo.journey import username
from tests.platform_web.browser.conftest import ARGUMENTS, CHROMIUM
from tests.prove.campaign import Campaign
from tests.prove.operator_hands import Hands


@dataclass(frozen=True)
class Approval:
    """What the operator saw on the page and did; ``clicks`` from the console's first page on."""

    tensors: list[str]
    digest: str
    clicks: int
    problems: list[str]


@contextmanager
def page_of(
    run: Campaign, role: str, site: DemoSite | None, problems: list[str], language: str = "en-GB"
) -> Iterator[Page]:
    """A browser window in which the person of this role has signed in by typing."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        window = browser.new_context(
            viewport={"width": 1280, "height": 900}, locale=language, accept_downloads=True
        )
        page = window.new_page()
        page.on("console", lambda it: _note(problems, it.type, it.text))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.goto(f"{run.machine.origin}/accounts/login/")
        page.fill("#id_username", username(role, site))
        page.fill("#id_password", run.machine.facts["passwords"][role])
        page.click("#sign-in button")
        page.wait_for_selector("#signed-in-as")
        yield page
        browser.close()


def add_site_by_clicking(run: Campaign, site: DemoSite) -> tuple[Path, str, str]:
    """Administrator: invite the site. Operator: open the link, type the PIN, unpack. Home, link, PIN."""
    home = run.machine.sites_home / site.name
    problems: list[str] = []
    with page_of(run, "administrator", None, problems) as page:
        page.goto(f"{run.machine.origin}/sites/")
        page.click("a[href$='/sites/add/']")
        for name in ("name", "title", "organisation", "zone"):
            page.fill(f"#site-form [name={name}]", getattr(site, name))
        page.fill("#site-form [name=contact]", f"it@{site.name}.example")
        page.click("#site-form button")
        link, pin = page.input_value("#kit-link"), page.input_value("#kit-pin")
        page.goto(link)
        for _ in range(60):
            if page.query_selector("#get-kit"):
                break
            page.wait_for_timeout(1000)
            page.reload()
        page.fill("#id_pin", pin)
        with page.expect_download() as waiting:
            page.click("#get-kit")
        archive = run.folder / f"{site.name}.zip"
        waiting.value.save_as(archive)
    assert not problems, problems
    with zipfile.ZipFile(archive) as kit:
        kit.extractall(home)
    archive.unlink()
    (home / "start.sh").chmod(0o755)
    write_dataset(run.study, site, home / "data" / run.study.dataset, data_home=None)
    return home, link, pin


def approve_by_clicking(run: Campaign, site: DemoSite, run_id: str, shots: Path, language: str) -> Approval:
    """Operator of ``site``: sign in to the site's own console, find the request, read it, approve."""
    address, passphrase = run.machine.console(run.machine.sites_home / site.name)
    hands, problems = Hands(), list[str]()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_context(viewport={"width": 1280, "height": 900}, locale=language).new_page()
        page.on("console", lambda it: _note(problems, it.type, it.text))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.goto(address)
        page.fill("#passphrase", passphrase)
        page.click("button.main")
        page.wait_for_selector("nav a[href='/runs/'] b")  # the overview loads itself again until it is asked
        page.screenshot(path=shots / f"console-{language}-overview.png", full_page=True)
        hands.click(page, "main a[href='/runs/']")
        hands.click(page, f"a[href='/runs/{run_id}/']")
        page.wait_for_selector("input[name=digest]", state="attached")
        listed = page.locator("section.off tbody code").all_text_contents()
        digest = str(page.get_attribute("input[name=digest]", "value"))
        page.screenshot(path=shots / f"console-{language}-request.png", full_page=True)
        hands.click(page, "button[value=approve]")
        page.wait_for_selector("p.note.good")
        page.screenshot(path=shots / f"console-{language}-approved.png", full_page=True)
        browser.close()
    return Approval(sorted(listed), digest, hands.clicks, problems)


def take_screenshots(run: Campaign, run_id: str, folder: Path) -> tuple[list[Path], list[str]]:
    """Every page a claim is about, as the person who uses it sees it; console problems beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    site, problems = run.study.sites[0], list[str]()
    walks: list[tuple[str, DemoSite | None, list[str]]] = [
        ("administrator", None, ["/", "/sites/", "/people/", "/models/", "/admin/"]),
        ("data_scientist", None, [f"/studies/{run.study.slug}/", f"/runs/{run_id}/"]),
        ("data_scientist", None, [f"/runs/add/?study={run.study.slug}"]),
        ("site_operator", site, [f"/sites/{site.name}/"]),
        ("auditor", None, ["/audit/"]),
    ]
    for role, where, pages in walks:
        with page_of(run, role, where, problems) as page:
            for path in pages:
                page.goto(run.machine.origin + path)
                page.wait_for_timeout(1500)
                name = path.split("?")[0].strip("/").replace("/", "-") or "home"
                page.screenshot(path=folder / f"{role}-{name}.png", full_page=True)
    _ask(run, site, folder, problems)
    return sorted(folder.glob("*.png")), problems


def _ask(run: Campaign, site: DemoSite, folder: Path, problems: list[str]) -> None:
    """Clinician: fill in one case, ask, read the answer of the own site's model."""
    data = run.machine.sites_home / site.name / "data" / run.study.dataset
    case: dict[str, Any] = run.study.case(site, data)["json"]["records"][0]
    with page_of(run, "clinician", site, problems) as page:
        page.goto(f"{run.machine.origin}/clinic/")
        for feature, value in case.items():
            page.fill(f"[data-feature='{feature}']", str(value))
        page.click("#ask-button")
        page.wait_for_selector("#result", state="visible", timeout=30_000)
        page.wait_for_timeout(500)
        page.screenshot(path=folder / "clinic.png", full_page=True)


def _note(problems: list[str], kind: str, text: str) -> None:
    if kind in {"error", "warning"}:
        problems.append(f"{kind}: {text}")
