"""A site asks; who started the run reads it where the run waits, answers by clicking, in both languages."""

import uuid

import pytest

from platform_web.training import services
from platform_web.training.models import RunQuestion
from tests.platform_web import world
from tests.platform_web.browser.test_chinese import english_on
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_in_the_browser import place as place

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def waiting(place):
    """A run that waits for its sites, one of which asks."""
    run = world.asked_run(
        place.rows.study.created_by, place.rows.study, list(place.rows.running.sites.all()), min_sites=2
    )
    ask(run, "Does one patient count once?")
    return run


def ask(run, text):
    services.record_question(
        site=run.sites.order_by("name")[0], run_id=str(run.pk), run_digest=run.run_digest,
        question_id=uuid.uuid4(), text=text,
    )  # fmt: skip


@pytest.mark.parametrize(("width", "language"), [(1280, "en"), (390, "en"), (1280, "zh"), (390, "zh")])
def test_read_answered_and_still_waiting(open_as, place, waiting, width, language, tmp_path):
    page = open_as("dana", f"/runs/{waiting.pk}/", width)
    if language == "zh":
        if width == 390:
            page.click("[data-nav]")
        page.click("button:has-text('中文')")
        page.wait_for_selector("html[lang=zh-hans]")
        assert english_on(page) == []
    assert page.locator("#waiting-for .pill").count() == 2
    assert "Does one patient count once?" in page.inner_text("#approvals")
    page.screenshot(path=tmp_path / f"asked-{language}-{width}.png", full_page=True)
    page.click("#approvals [data-question] a")
    page.fill("#questions textarea", "Once.")
    page.wait_for_timeout(2500)  # the live part loads itself every two seconds; what is typed stays
    assert page.input_value("#questions textarea") == "Once."
    page.click("#questions form button")
    page.wait_for_selector("#questions textarea", state="detached")
    assert "Once." in page.inner_text("#questions")
    assert page.locator("#approvals [data-question]").count() == 0
    assert page.locator("#waiting-for .pill").count() == 2
    assert RunQuestion.objects.get().answer == "Once."
    if language == "zh":
        assert english_on(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=tmp_path / f"answered-{language}-{width}.png", full_page=True)


def test_a_question_that_comes_while_the_page_is_open_shows_itself(open_as, waiting):
    page = open_as("dana", f"/runs/{waiting.pk}/")
    ask(waiting, "And at the other sites?")
    page.wait_for_selector("#approvals [data-question]:has-text('And at the other sites?')", timeout=8000)
    page.locator("#approvals [data-question] a").nth(1).click()
    page.wait_for_selector("#questions:has-text('And at the other sites?')")
