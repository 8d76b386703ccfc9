"""Show 6 of the life of a site: the console in both languages, by clicking, on a real site."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import BrowserContext, Page, sync_playwright
from starlette.routing import Route

from site_kits.console.app import create_app
from site_kits.site_home import SiteHome
from tests.platform_web.browser.conftest import ARGUMENTS, CHROMIUM
from tests.prove.console_site import STUDY, ConsoleSite, ask_twice, console_site
from tests.prove.proof import Proof
from tests.prove.site_asking import prove_asking
from tests.site_kits.dicom_doubles import NEEDLES
from tests.site_kits.site_doubles import wait_until

FOLDER = Path("var/prove/site-console")
PUBLIC = {"/login", "/console.css", "/favicon.ico"}
ITEM = "6"
PATIENCE_MS = 600_000  # of a page that says "being read" and loads itself again


def prove_console(proof: Proof, *, full: bool) -> None:
    """One walk in English that does everything, then every page in Chinese."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    problems: list[str] = []
    with console_site() as site:
        locked(proof, site)
        run_id = ask_twice(site)
        with browser("en-GB", problems) as window:
            page = window.new_page()
            sign_in(proof, page, site)
            register_table(proof, page, site)
            register_dicom(proof, page, site)
            prove_asking(proof, page, site, run_id, shoot)
            approve(proof, page, site, run_id)
            pages = walk(page, site, run_id, "en")
        with browser("zh-CN", problems) as window:
            page = window.new_page()
            page.goto(site.url)
            shoot(page, "zh-00-login")
            enter(page, site.passphrase)
            pages += walk(page, site, run_id, "zh")
        hidden(proof, site)
    taken = len(list(FOLDER.glob("*.png")))
    proof.check(ITEM, "screenshots to look at", f"{taken} in {FOLDER}", "≥ 24", taken >= 24)
    proof.check(ITEM, "console errors and warnings", problems or 0, "0", not problems)
    wide = [name for name, is_wide in pages if is_wide]
    proof.check(ITEM, "pages wider than the window", wide or 0, "0", not wide)


@contextmanager
def browser(language: str, problems: list[str]) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        window = chromium.new_context(viewport={"width": 1280, "height": 860}, locale=language)
        window.on("console", lambda it: it.type in ("error", "warning") and problems.append(it.text))
        window.on("weberror", lambda error: problems.append(str(error.error)))
        yield window
        chromium.close()


def press(page: Page, button: str) -> None:
    """Press a form's button and wait for the page it leads to."""
    with page.expect_navigation(timeout=PATIENCE_MS):
        page.click(button)
    settle(page)


def settle(page: Page) -> None:
    """Wait while a page says that something is being read and loads itself again; quiet for two seconds."""
    quiet, until = 0, time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < until:
        page.wait_for_timeout(700)
        page.wait_for_load_state()
        again = page.locator("meta[http-equiv=refresh][content^='2;'], meta[content^='3;']").count()
        quiet = 0 if again else quiet + 1
        if quiet >= 3:
            return
    raise AssertionError(f"{page.url} was still being read after {PATIENCE_MS // 1000} s")


def shoot(page: Page, name: str) -> tuple[str, bool]:
    page.wait_for_timeout(150)
    page.screenshot(path=FOLDER / f"{name}.png", full_page=True)
    is_wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    return name, bool(is_wide)


def locked(proof: Proof, site: ConsoleSite) -> None:
    """Every address and method of the real process without signing in."""
    routes = [route for route in create_app(SiteHome(site.home.root))._app.routes if isinstance(route, Route)]
    wait_until(lambda: answers(site.url), 40)
    open_ones, tried = [], 0
    with httpx.Client(base_url=site.url.rstrip("/"), trust_env=False) as client:
        for route in routes:
            path = route.path.replace("{folder}", STUDY).replace("{run}", "x")
            for method in (route.methods or set()) - {"HEAD"}:
                tried += 1
                answer = client.request(method, path)
                refused = answer.status_code in (401, 403) or answer.headers.get("location") == "/login"
                if not refused and route.path not in PUBLIC:
                    open_ones.append(f"{method} {path}")
        foreign = client.get("/login", headers={"Host": "rebound.example"}).status_code
    proof.check(ITEM, f"addresses open without signing in, of {tried}", open_ones or 0, "0", not open_ones)
    proof.check(ITEM, "a foreign Host header", foreign, "404", foreign == 404)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}login", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def enter(page: Page, passphrase: str) -> None:
    page.fill("#passphrase", passphrase)
    press(page, "button.main")


def sign_in(proof: Proof, page: Page, site: ConsoleSite) -> None:
    page.goto(site.url)
    shoot(page, "en-00-login")
    enter(page, "not-the-passphrase")
    wrong = page.locator("[role=alert]").count() == 1
    enter(page, site.passphrase)
    page.wait_for_selector("nav")
    proof.check(ITEM, "a wrong passphrase is refused, the shown one signs in", wrong, "True", wrong)
    logged = site.passphrase in (site.home.logs / "agent.log").read_text()
    mode = oct(site.home.console_passphrase.stat().st_mode & 0o777)
    figure = f"in the log: {logged}, hash {mode}"
    proof.check(ITEM, "the passphrase", figure, "not in the log, 0600", not logged and mode == "0o600")


def register_table(proof: Proof, page: Page, site: ConsoleSite) -> None:
    """Look, describe, read the errors by row, correct, see the counts, share."""
    site.damage_table()
    page.click("nav a[href='/data/']")
    page.click(f"a[href='/data/{STUDY}/']")
    settle(page)
    shoot(page, "en-03-describe")
    page.fill("#labels", "benign\nmalignant")
    press(page, "form[action$='describe'] button.main")
    rows = page.locator("td.words").count()
    shoot(page, "en-04-errors")
    proof.check(ITEM, "errors named with row and column", rows, "5", rows == 5)
    site.repair_table()
    press(page, "form[action$='check'] button")
    beats = len(site.portal.heartbeats)
    wait_until(lambda: len(site.portal.heartbeats) > beats + 1, 40)
    before = site.shared()
    shoot(page, "en-05-checked")
    shown = json.loads(page.locator("section.step pre").last.text_content() or "{}")
    press(page, "form[action$='share'] button.main")
    shoot(page, "en-06-shared")
    wait_until(lambda: STUDY in site.shared(), 40)
    sent = next(card for card in site.portal.heartbeats[-1]["datasets"] if card["name"] == STUDY)
    figure = f"before {before or 'nothing'}, after {STUDY}"
    proof.check(ITEM, "in the heartbeat before and after the switch", figure, "only after", not before)
    proof.check(ITEM, "what was shown is what was sent", shown == sent, "True", shown == sent)


def register_dicom(proof: Proof, page: Page, site: ConsoleSite) -> None:
    page.goto(f"{site.url}data/chest-images/")
    settle(page)
    press(page, "form[action$='report'] button")
    shoot(page, "en-07-dicom-report")
    named = page.locator('td:has-text("Patient\'s Name")').count()
    page.check("input[name=acknowledged]")
    press(page, "form[action$='convert'] button.main")
    page.goto(f"{site.url}data/chest-images/")  # a copy that is quick leads to its page by itself
    press(page, ".verdict a")
    shoot(page, "en-08-dicom-copy")
    press(page, "form[action$='share'] button.main")
    wait_until(lambda: "chest-images-pixels" in site.shared(), 40)
    copied = [path for path in (site.home.data / "chest-images-pixels").iterdir() if path.is_file()]
    leaks = [p.name for p in copied if any(needle.encode() in p.read_bytes() for needle in NEEDLES)]
    proof.check(ITEM, "the report names the patient's name", named, "1", named == 1)
    figure = f"{len(copied)} files, with a needle: {leaks or 0}"
    proof.check(ITEM, "names in the de-identified copy", figure, "0", len(copied) > 50 and not leaks)


def approve(proof: Proof, page: Page, site: ConsoleSite, run_id: str) -> None:
    page.goto(site.url)
    shoot(page, "en-01-overview-with-request")
    page.click("nav a[href='/runs/']")
    page.click(f"a[href='/runs/{run_id}/']")
    shoot(page, "en-09-request")
    began = time.monotonic()
    press(page, "form[action$='dry-run'] button")
    if fault := page.locator("#dry-run .sentence").all_text_contents():
        raise AssertionError(f"the dry run gave no result: {fault[0]}")
    page.wait_for_selector("#dry-run .verdict", timeout=5000)
    seconds = time.monotonic() - began
    shoot(page, "en-10-dry-run")
    press(page, "button[value=approve]")
    decision = json.loads((site.home.root / "requests" / run_id / "decision.json").read_text())
    proof.check(ITEM, "dry run from click to result", f"{seconds:.0f} s", "≤ 300 s", seconds <= 300)
    yes = decision["approve"] and decision["by"] == "person"
    wait_until(lambda: any(run_id in json.dumps(one) for one in site.portal.decisions), 30)
    proof.check(ITEM, "approved by a person (clicks: item 7)", yes, "True", yes)


def walk(page: Page, site: ConsoleSite, run_id: str, language: str) -> list[tuple[str, bool]]:
    """Every page as it is at the end."""
    places = [
        ("01-overview", ""), ("02-data", "data/"), ("06-shared", f"data/{STUDY}/"),
        ("07-dicom-report", "data/chest-images/"), ("08-dicom-copy", "data/chest-images-pixels/"),
        ("09-requests", "runs/"), ("10-request", f"runs/{run_id}/"), ("11-egress", "egress/"),
    ]  # fmt: skip
    found = []
    for name, path in places:
        page.goto(site.url + path)
        found.append(shoot(page, f"{language}-{name}"))
    page.set_viewport_size({"width": 420, "height": 800})
    page.goto(f"{site.url}data/{STUDY}/")
    found.append(shoot(page, f"{language}-12-narrow"))
    page.set_viewport_size({"width": 1280, "height": 860})
    return found


def hidden(proof: Proof, site: ConsoleSite) -> None:
    """No name of a patient in any log or state file of the site."""
    places = [
        path
        for folder in (site.home.logs, site.home.state, site.home.registered)
        for path in folder.rglob("*")
    ]
    found = [
        path.name
        for path in places
        if path.is_file() and any(needle.encode() in path.read_bytes() for needle in NEEDLES)
    ]
    proof.check(ITEM, "patients' names in logs, state and registration", found or 0, "0", not found)
