"""The page of a masked run that waits to go on, and the form that starts one, as people see them."""

import os
from pathlib import Path

import pytest

from platform_web.training import services
from tests.platform_web import world
from tests.platform_web.browser.test_chinese import english_on
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_in_the_browser import place as place

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
NAMES = ["site-a", "site-b", "site-c", "site-d"]
SCREENS = os.environ.get("CONSILIUM_SCREENS")


@pytest.fixture
def waiting(place, make_site):
    """A masked run of four sites in its second job, which has just been interrupted."""
    from django.contrib.auth.models import User

    sites = [*place.rows.done.sites.order_by("name"), *(make_site(name) for name in NAMES[2:])]
    for site in sites:
        world.bring_online(site)
    run = world.submitted_run(User.objects.get(username="dana"), place.rows.study, sites)
    world.feed(run, [world.roster_line(NAMES), *world.masked_lines(NAMES, range(1, 8))])
    services.interrupt_run(run_id=str(run.pk), epoch=1, code="E_NO_QUORUM", error="2 of 3 sites signed.")
    return run


def keep(page, name):
    if SCREENS:
        page.screenshot(path=str(Path(SCREENS) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_receipt_fits_the_window_in_both_languages(open_as, place, waiting, width):
    page = open_as("ann", f"/runs/{waiting.pk}/", width)
    assert page.is_visible("#interrupted")
    assert page.is_visible("#masked-rounds")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"receipt-en-{width}")
    if width == 390:
        page.click("[data-nav]")
    page.click("button:has-text('中文')")
    page.wait_for_selector("html[lang=zh-hans]")
    assert english_on(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"receipt-zh-{width}")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_form_says_what_three_sites_mean_when_three_are_ticked(open_as, place, waiting, width):
    page = open_as("dana", f"/runs/add/?study={place.rows.study.slug}", width)
    sentence = "text=Four sites tolerate one dropout."
    assert page.is_hidden(sentence)
    page.uncheck("input[name=sites][value=site-d]")
    assert page.is_visible(sentence)
    keep(page, f"form-en-{width}")
    page.uncheck("input[name=sites][value=site-c]")
    page.click("#run-form .button:not(.second)")
    page.wait_for_selector("text=each could work out the other's update")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"form-error-{width}")
    page.said[:] = [text for text in page.said if "422" not in text]  # the browser's own word on the status
    if width == 390:
        page.click("[data-nav]")
    page.click("button:has-text('中文')")
    page.wait_for_selector("html[lang=zh-hans]")
    assert english_on(page) == []
    keep(page, f"form-zh-{width}")
