"""Site life, item 6: before deciding the operator asks, by clicking, and reads the answer beside it.

The portal's half stands in tests/platform_web: api/test_questions.py runs this very agent code against its
door, browser/test_questions_page.py clicks the answer.
"""

import re
from collections.abc import Callable

from playwright.sync_api import Page

from site_kits.agent.questions import list_questions
from tests.prove.console_site import ConsoleSite
from tests.prove.operator_hands import Hands
from tests.prove.proof import Proof
from tests.site_kits.site_doubles import wait_until

ITEM = "6"
QUESTION = "Does one patient count once, or once per aspirate?"
ANSWER = "Once per patient: rows of one patient stay together."


def prove_asking(
    proof: Proof, page: Page, site: ConsoleSite, run_id: str, shoot: Callable[[Page, str], object]
) -> None:
    """From the console's first page to the answer on the request's page; nothing is decided by it."""
    folder, hands = site.home.root / "requests" / run_id, Hands()
    page.goto(site.url)
    hands.click(page, "nav a[href='/runs/']")
    hands.click(page, f"a[href='/runs/{run_id}/']")
    page.fill("#text", QUESTION)
    page.fill("#asker", "Olaf")
    hands.click(page, "form[action$='/ask'] button")
    page.wait_for_selector(f"#questions .said:has-text('{QUESTION}')")
    shoot(page, "en-13-asked")
    wait_until(lambda: site.portal.questions, 40)
    named, body = site.portal.questions[0]
    site.portal.answers[run_id] = [
        {"id": body["id"], "text": body["text"], "asked": "2026-12-01T00:00:00+00:00", "answer": ANSWER,
         "answered": "2026-12-01T00:05:00+00:00", "by": "Dana"}
    ]  # fmt: skip
    wait_until(lambda: list_questions(site.home, run_id)[0].answer, 40)
    page.reload()
    beside = page.locator("#questions .talk").all_inner_texts()
    shoot(page, "en-14-answered")
    there_and_back = named == run_id and len(beside) == 1 and QUESTION in beside[0] and ANSWER in beside[0]
    figure = f"{hands.clicks} clicks, {len(site.portal.questions)} question at the portal, answer beside it"
    proof.check(ITEM, "ask: question there and answer back", figure, "≤ 3 clicks, once",
                passed=there_and_back and hands.clicks <= 3 and len(site.portal.questions) == 1)  # fmt: skip
    is_open = not (folder / "decision.json").exists() and "Olaf" not in str(site.portal.questions)
    proof.check(ITEM, "asked is not decided; who asked stays at the site", is_open, "True", is_open)
    texts = "".join(path.read_text(errors="replace") for path in site.home.logs.rglob("*") if path.is_file())
    found = re.findall(f"{re.escape(QUESTION)}|{re.escape(ANSWER)}", texts)
    proof.check(ITEM, "words of question and answer in the site's process logs", len(found), "0", not found)
