"""Gus forgot the password: Ann gives a new one, Gus signs in with it and chooses their own."""

import pytest

from platform_web.accounts.models import Role
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_in_the_browser import place as place
from tests.platform_web.browser.test_second_factor import keep, to_chinese

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
HANDED, OWN = "a staple for the horse", "nobody else knows this"


def type_twice(page, password):
    page.fill("#id_password1", password)
    page.fill("#id_password2", password)
    page.click("#password-form button")


def sign_in(page, place, password):
    page.goto(f"{place.url}/accounts/login/")
    page.fill("#id_username", "gus")
    page.fill("#id_password", password)
    page.click("#sign-in button")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_forgotten_password(open_as, place, person, width):
    gus = person("gus", Role.DATA_SCIENTIST)
    page = open_as("ann", "/people/", width)
    keep(page, "people-en", width)
    page.click(f"a[href='/people/{gus.pk}/password/']")
    to_chinese(page, "reset-password", width)
    page.fill("#id_reason", "forgot it over the summer")
    type_twice(page, HANDED)
    page.wait_for_selector("text=gus signs in with the new password now")
    page.context.clear_cookies()

    sign_in(page, place, HANDED)
    page.wait_for_selector("text=Welcome, gus")
    page.goto(f"{place.url}/account/")
    keep(page, "account-en", width)
    page.click("text=Change the password")
    to_chinese(page, "change-password", width)
    page.fill("#id_current", HANDED)
    type_twice(page, OWN)
    page.wait_for_selector("text=Your new password counts from now on")
    page.context.clear_cookies()
    sign_in(page, place, OWN)
    page.wait_for_selector("text=Welcome, gus")
