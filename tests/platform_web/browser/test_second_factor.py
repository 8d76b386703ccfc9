"""A person with a phone: enrols, signs out, signs in with a code, then with a recovery code."""

import os
import time
from pathlib import Path

import pytest

from platform_web.accounts.models import Role
from tests.platform_web.browser.test_chinese import english_on
from tests.platform_web.browser.test_in_the_browser import LOUD
from tests.platform_web.conftest import PASSWORD
from tests.platform_web.phones import Phone

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
REFUSED = "status of 422"  # the browser's own word about a form that comes back with a sentence
SCREENS = os.environ.get("CONSILIUM_SCREENS")


def keep(page, name, width):
    assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    if SCREENS:
        page.screenshot(path=str(Path(SCREENS) / f"{name}-{width}.png"), full_page=True)


@pytest.fixture
def browse(chromium, live_server, portal, ann, settings):
    """``browse(width)`` is a page at the sign-in. Nothing is in the console or fetched abroad."""
    settings.CONSILIUM_SECOND_FACTOR = "required"
    said, contexts = [], []

    def open_page(width):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 850}, locale="en-US"))
        page = contexts[-1].new_page()
        page.on(
            "console",
            lambda message: (
                message.type in LOUD and REFUSED not in message.text and said.append(message.text)
            ),
        )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(live_server.url) or said.append(asked.url))
        page.goto(live_server.url + "/accounts/login/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def give_password(page):
    page.fill("#id_username", "ann")
    page.fill("#id_password", PASSWORD)
    page.click("#sign-in button")


def open_menu(page):
    """On a phone the menu hides what stands at the side elsewhere."""
    if page.is_visible("[data-nav]"):
        page.click("[data-nav]")


def sign_out(page):
    open_menu(page)
    page.click("#sign-out")
    page.wait_for_selector("#sign-in")


def to_chinese(page, name, width):
    keep(page, f"{name}-en", width)
    open_menu(page)
    page.click("button:has-text('中文')")
    page.wait_for_selector("html[lang=zh-hans]")
    assert english_on(page) == []
    keep(page, f"{name}-zh", width)
    open_menu(page)
    page.click("button:has-text('English')")
    page.wait_for_selector("html[lang=en]")


@pytest.fixture
def clock(monkeypatch):
    """Minutes pass between two sign-ins; a code is used once."""

    class Clock:
        ahead = 0

        def __call__(self):
            return time.time() + self.ahead

    clock = Clock()
    monkeypatch.setattr("django_otp.oath.time", clock)
    return clock


def enrol_by_page(page, width):
    """The phone and the recovery codes of who was led to enrolment and enrolled."""
    give_password(page)
    page.wait_for_selector("#enrol-factor svg.qr")
    box = page.locator("svg.qr").bounding_box()
    assert box["width"] > 150
    assert box["height"] > 150
    to_chinese(page, "enrol", width)
    phone = Phone.shown(page.content())
    page.fill("#id_code", phone.code())
    page.click("text=Turn on")
    page.wait_for_selector("#recovery-codes")
    codes = page.locator("#recovery-codes li").all_inner_texts()
    assert len(codes) == 10
    keep(page, "recovery-codes-en", width)
    page.click("text=I have kept them")
    page.wait_for_selector("text=Welcome, ann")
    sign_out(page)
    return phone, codes


@pytest.mark.parametrize("width", [1280, 390])
def test_enrol_sign_in_and_recover(browse, clock, width, person):
    person("bea", Role.ADMINISTRATOR)
    page = browse(width)
    phone, codes = enrol_by_page(page, width)
    clock.ahead += 90
    give_password(page)
    page.wait_for_selector("#second-factor")
    page.fill("#id_code", "1")
    page.click("#second-factor button")
    page.wait_for_selector("[role=alert]")
    keep(page, "code-wrong-en", width)
    time.sleep(1.1)  # as long as one wrong code costs
    page.fill("#id_code", phone.code())
    page.click("#second-factor button")
    page.wait_for_selector("text=Welcome, ann")
    sign_out(page)

    give_password(page)
    page.wait_for_selector("#second-factor")
    to_chinese(page, "code", width)
    page.fill("#id_code", codes[4])
    page.click("#second-factor button")
    page.wait_for_selector("text=Welcome, ann")
    page.goto(page.url.rstrip("/") + "/account/")
    assert page.inner_text("#codes-left") == "9"
    if width == 1280:
        to_chinese(page, "account", width)
        page.goto(page.url.replace("/account/", "/people/"))
        keep(page, "people-en", width)
