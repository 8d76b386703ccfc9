"""The 中文 button: then nothing of the catalogue stands in English on any page, and nothing overflows."""

import re

import pytest

from infra.messages.__main__ import PORTAL
from infra.messages.catalogue import read_po
from tests.platform_web.browser.test_in_the_browser import PAGES
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_in_the_browser import place as place

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
EVERYWHERE = [*PAGES, "/admin/", "/admin/federation/site/", "/studies/breast-cytology/"]


def english_on(page):
    """Sentences of the catalogue, two words and more, that the page says in English."""
    text = re.sub(r"\s+", " ", page.inner_text("body"))
    sentences = [entry.msgid for entry in read_po(PORTAL) if " " in entry.msgid.strip()]
    return [sentence for sentence in sentences if re.search(rf"\b{re.escape(sentence)}", text)]


@pytest.mark.parametrize("width", [1280, 390])
def test_one_click_and_every_page_is_chinese(open_as, place, width):
    page = open_as("ann", "/", width)
    assert english_on(page)  # the check itself finds English
    if width == 390:
        page.click("[data-nav]")
    page.click("button:has-text('中文')")
    page.wait_for_selector("html[lang=zh-hans]")
    for path in [*EVERYWHERE, f"/runs/{place.rows.done.pk}/", f"/runs/{place.rows.running.pk}/"]:
        page.goto(place.url + path)
        assert english_on(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_the_clinician_reads_the_answer_in_chinese(open_as, place):
    page = open_as("cleo", "/clinic/")
    page.click("button:has-text('中文')")
    page.wait_for_selector("html[lang=zh-hans]")
    for number in range(1, 11):
        page.fill(f"#feature-{number}", "1.5")
    page.click("#ask-button")
    page.wait_for_selector("#answer:not([hidden])")
    assert "个性化" in page.inner_text("#result-arm")
    assert english_on(page) == []
