"""An auditor asks for the evidence of a model and takes the pack away, in Chinese, on two widths."""

import io
import zipfile
from types import SimpleNamespace

import pytest

from platform_web.accounts.models import Role
from platform_web.outbox.models import Task
from platform_web.outbox.runner import run_task
from tests.platform_web.browser.test_chinese import english_on
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_standing_page import keep
from tests.platform_web.evidence_world import EvidenceWorld

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def place(portal, live_server, person):
    person("otto", Role.AUDITOR)  # with a password alone
    return SimpleNamespace(url=live_server.url)


@pytest.fixture
def version(portal, site_key, tmp_path):
    made = EvidenceWorld(tmp_path, site_key)
    version = made.completed()
    made.promote(version)
    made.witness()
    yield version
    made.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_an_auditor_takes_a_pack_away(version, open_as, width):
    page = open_as("otto", "/audit/", width)
    if width == 390:
        page.click("[data-nav]")
    page.click("button:has-text('中文')")
    page.wait_for_selector("html[lang=zh-hans]")
    assert english_on(page) == []
    keep(page, f"audit-list-zh-{width}")
    page.click("#entries a")
    page.click("#verify-entry")
    page.wait_for_selector("#verified-entry .note.warn")  # the sign-in just now is under no signed head yet
    assert english_on(page) == []
    keep(page, f"audit-entry-zh-{width}")
    address = page.url.partition("/audit/")[0] + f"/models/{version.pk}/evidence/"
    page.goto(address)
    assert page.locator("[data-control=second_factor]").get_attribute("data-holds") == "no"
    page.click("#make-pack")
    page.wait_for_selector("#packs [data-pack]")
    run_task(Task.objects.get(name="registry.make_pack").pk)
    page.goto(address)
    assert english_on(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"evidence-zh-{width}")
    with page.expect_download() as waiting:
        page.click("#packs a.button")
    names = zipfile.ZipFile(io.BytesIO(waiting.value.path().read_bytes())).namelist()
    assert {"verify.py", "MANIFEST.json", "proofs/bundle.txt"} <= set(names)
