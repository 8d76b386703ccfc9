"""The audit log as an auditor sees it: finding, verifying step by step, and what the sites vouch for."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.note import COSIGNATURE_V1, SignedNote, cosign, verifier_key
from platform_web.audit import selectors, witnessing
from platform_web.audit.models import AuditEvent
from platform_web.federation import services as federation
from platform_web.federation.models import Site
from tests.platform_web.browser.test_in_the_browser import open_as as open_as
from tests.platform_web.browser.test_in_the_browser import place as place
from tests.platform_web.browser.test_standing_page import keep
from tests.platform_web.protected_world import seal_log

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def witnessed(place, ann, make_site):
    """Site A typed a reason; the log is signed, and two of three sites have co-signed it."""
    make_site("site-c")
    federation.suspend_site(actor=ann, site=Site.objects.get(name="site-a"), reason="asked by Mr Zhang")
    federation.resume_site(actor=ann, site=Site.objects.get(name="site-a"))
    Site.objects.update(status=Site.Status.ENROLLED)  # without a certificate a resumed site is an invited one
    keys = {name: Ed25519PrivateKey.generate() for name in ("site-a", "site-b", "site-c")}
    for site, key in keys.items():
        name = witnessing.witness_name(site)
        witnessing.register_witness(site=site, key_text=str(verifier_key(name, key, COSIGNATURE_V1)))
    seal_log()
    head = selectors.latest_head()
    for site in ("site-a", "site-b"):
        line = cosign(
            SignedNote.parse(head.note).text, witnessing.witness_name(site), keys[site], int(time.time())
        )
        witnessing.add_cosignature(site=site, size=head.size, line=str(line))
    return AuditEvent.objects.get(act="site.suspended")


@pytest.mark.parametrize("width", [1280, 390])
def test_an_auditor_finds_an_entry_and_sees_it_verified(open_as, witnessed, width):
    page = open_as("otto", "/audit/?act=site.suspended", width=width)
    assert "co-signed by 2 of 3 sites" in page.locator("#standing").inner_text()
    keep(page, f"audit-list-{width}")
    page.click("#entries a")
    assert "asked by Mr Zhang" in page.locator("#body").inner_text()
    page.click("#verify-entry")
    page.wait_for_selector("#verified-entry")
    assert "The entry verifies." in page.locator("#verified-entry").inner_text()
    assert page.locator("#cosigners .good").count() == 2
    keep(page, f"audit-entry-{width}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
