"""The benefit table of four sites, one of which keeps its figures, as a director sees it."""

import os
from pathlib import Path

import pytest

from tests.platform_web import world
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_in_the_browser import place as place

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SCREENS = os.environ.get("CONSILIUM_SCREENS")


@pytest.fixture
def run(place, make_site):
    from django.contrib.auth.models import User

    sites = [*place.rows.done.sites.order_by("name"), make_site("site-c"), make_site("site-d")]
    for site in sites:
        world.bring_online(site)
    cohort = {
        arm: {"test_balanced_accuracy": 0.91, "test_accuracy": 0.92, "test_n": 114.0} for arm in world.ARMS
    }
    dana = User.objects.get(username="dana")
    return world.completed_run(dana, place.rows.study, sites, keeps=("site-d",), cohort=cohort)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_verdict_is_read_at_a_glance_and_every_figure_is_one_click_away(open_as, run, width):
    page = open_as("ann", f"/runs/{run.pk}/", width)
    assert "cannot be said" in page.inner_text("#no-site-harmed")
    assert page.is_hidden("[data-measured=site-a] table")
    page.click("[data-measured=site-a] summary")
    assert page.is_visible("[data-measured=site-a] table")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if SCREENS:
        page.locator("#benefit").screenshot(path=str(Path(SCREENS) / f"benefit-{width}.png"))
