"""The analysis of a run in its form and on its page, as people see it in both languages."""

import pytest

from tests.platform_web.browser.test_chinese import english_on
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_in_the_browser import place as place
from tests.platform_web.browser.test_receipt_page import keep

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_analysis_opens_and_fits_in_both_languages(open_as, place, width):
    page = open_as("dana", f"/runs/add/?study={place.rows.study.slug}", width)
    page.click("#analysis > summary")
    assert page.is_visible("#id_analysis_margin")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"analysis-form-en-{width}")
    if width == 390:
        page.click("[data-nav]")
    page.click("button:has-text('中文')")
    page.wait_for_selector("html[lang=zh-hans]")
    page.click("#analysis > summary")
    assert english_on(page) == []
    keep(page, f"analysis-form-zh-{width}")
    page.goto(page.url.split("/runs/")[0] + f"/runs/{place.rows.done.pk}/")
    assert page.is_visible("#run-analysis")
    keep(page, f"analysis-run-zh-{width}")
