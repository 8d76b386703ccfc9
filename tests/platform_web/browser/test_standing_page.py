"""Suspending and revoking a site, as two administrators see it, in both languages."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from platform_web.accounts.models import Role
from platform_web.federation.models import Certificate, Site
from tests.platform_web.browser.test_chinese import english_on
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_in_the_browser import place as place

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SCREENS = os.environ.get("CONSILIUM_SCREENS")
REASON = "The laptop with the site's key was stolen"


def keep(page, name):
    if SCREENS:
        page.screenshot(path=str(Path(SCREENS) / f"{name}.png"), full_page=True)


@pytest.fixture
def site(place):
    from django.utils import timezone

    found = Site.objects.get(name="site-a")
    now = timezone.now()
    Certificate.objects.create(
        site=found, serial="1f", fingerprint_sha256="0" * 64, pem="", not_before=now,
        not_after=now + timedelta(days=80),
    )  # fmt: skip
    return found


@pytest.mark.parametrize("width", [1280, 390])
def test_two_administrators_revoke_a_site(open_as, place, site, person, width):
    person("bea", Role.ADMINISTRATOR)
    page = open_as("ann", "/sites/site-a/", width)
    page.fill("#revocation-reason", REASON)
    page.click("text=Ask for revocation")
    assert page.is_visible("#revocation")
    assert page.is_hidden("text=Confirm: revoke now")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"revocation-asked-{width}")
    page = open_as("bea", "/sites/site-a/", width)
    keep(page, f"revocation-open-{width}")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("text=Confirm: revoke now")
    page.wait_for_selector("text=REVOKED")
    site.refresh_from_db()
    assert site.status == Site.Status.REVOKED
    if width == 390:
        page.click("[data-nav]")
    page.click("button:has-text('中文')")
    page.wait_for_selector("html[lang=zh-hans]")
    assert english_on(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"revoked-zh-{width}")


def test_one_administrator_suspends_and_resumes_at_once(open_as, place, site):
    page = open_as("ann", "/sites/site-a/", 1280)
    page.fill("#suspend-reason", "the operator called")
    page.click("#standing button:has-text('Suspend')")
    page.wait_for_selector("text=The site is suspended")
    keep(page, "suspended-1280")
    page.click("#standing button:has-text('Resume')")
    page.wait_for_selector("text=may take part again")
    site.refresh_from_db()
    assert site.status == Site.Status.ENROLLED
