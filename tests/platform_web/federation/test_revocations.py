"""Revocation takes two administrators; what one does alone is suspension."""

import pytest

from fl_jobs.packaging.allow_list import ALLOW_LIST, AllowList
from platform_web.accounts.models import Role
from platform_web.audit.models import AuditEvent
from platform_web.federation import allow_list, places, services
from platform_web.federation.errors import FederationError, RevocationError
from platform_web.federation.models import Certificate, Kit, Revocation, Site
from platform_web.outbox.models import Task
from platform_web.outbox.runner import run_all_due

REASON = "a laptop with the key was lost"


@pytest.fixture
def bea(person):
    return person("bea", Role.ADMINISTRATOR)


@pytest.fixture
def site(enrolment):
    return Site.objects.get()


def allowed():
    certificate = Certificate.objects.get()
    return AllowList(places.server_kit()).allows("site-a", certificate.serial)


def act():
    return AuditEvent.objects.order_by("-number").first().act


def test_the_second_administrator_revokes_and_the_first_cannot(site, ann, bea, portal):
    asked = services.request_revocation(actor=ann, site=site, reason=REASON)
    assert act() == "revocation.requested"
    allow_list.write()
    assert allowed()
    with pytest.raises(RevocationError, match="another administrator"):
        services.confirm_revocation(actor=ann, revocation=asked)
    services.confirm_revocation(actor=bea, revocation=asked)
    assert act() == "certificate.revoked"
    allow_list.write()
    assert not allowed()
    site.refresh_from_db()
    assert site.status == Site.Status.REVOKED
    assert not Kit.objects.filter(enrolled_at=None, revoked_at=None).exists()
    with pytest.raises(RevocationError, match="closed"):
        services.confirm_revocation(actor=bea, revocation=asked)
    with pytest.raises(FederationError):
        services.resume_site(actor=ann, site=site)


@pytest.mark.parametrize("role", [role for role in Role if role != Role.ADMINISTRATOR])
def test_nobody_else_may_ask_confirm_or_withdraw(site, ann, person, role):
    other = person("other", role, site if role in {Role.SITE_OPERATOR, Role.CLINICIAN} else None)
    with pytest.raises(RevocationError, match="Only an administrator"):
        services.request_revocation(actor=other, site=site, reason=REASON)
    asked = services.request_revocation(actor=ann, site=site, reason=REASON)
    for service in (services.confirm_revocation, services.withdraw_revocation):
        with pytest.raises(RevocationError, match="Only an administrator"):
            service(actor=other, revocation=asked)
    assert Site.objects.get().status == Site.Status.ENROLLED


@pytest.mark.parametrize("reason", ["", "  short ", "x" * 501, "two\x00lines of reason"])
def test_a_reason_is_one_line_of_ten_characters_or_more(site, ann, reason):
    with pytest.raises(FederationError):
        services.request_revocation(actor=ann, site=site, reason=reason)
    assert not Revocation.objects.exists()


def test_there_is_one_open_request_and_it_can_be_withdrawn(site, ann, bea):
    asked = services.request_revocation(actor=ann, site=site, reason=REASON)
    with pytest.raises(RevocationError, match="already"):
        services.request_revocation(actor=bea, site=site, reason=REASON)
    services.withdraw_revocation(actor=ann, revocation=asked)
    assert act() == "revocation.withdrawn"
    with pytest.raises(RevocationError, match="closed"):
        services.confirm_revocation(actor=bea, revocation=asked)
    services.request_revocation(actor=bea, site=site, reason=REASON)
    assert Site.objects.get().status == Site.Status.ENROLLED


def test_a_site_without_a_certificate_has_nothing_to_revoke(make_site, ann, portal):
    with pytest.raises(RevocationError, match="no certificate"):
        services.request_revocation(actor=ann, site=make_site(), reason=REASON)


def test_suspension_counts_at_once_and_is_reversible(site, ann, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        services.suspend_site(actor=ann, site=site)
    assert not allowed()
    with django_capture_on_commit_callbacks(execute=True):
        services.resume_site(actor=ann, site=site)
    assert allowed()


def test_the_worker_writes_the_list_when_the_committing_process_could_not(
    site, ann, django_capture_on_commit_callbacks
):
    allow_list.write()
    folder = (places.server_kit() / ALLOW_LIST).parent
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"a file where the folder was")
    with django_capture_on_commit_callbacks(execute=True):
        services.suspend_site(actor=ann, site=site)
    folder.unlink()
    folder.with_name("away").rename(folder)
    assert allowed()  # the disk's fault; the promise stands
    Task.objects.filter(name="federation.build_kit").delete()
    Task.objects.update(lease_until=None)
    run_all_due()
    assert not allowed()


def test_the_portals_own_identities_are_on_the_list(portal):
    allow_list.write()
    known = AllowList(places.server_kit())
    assert known.knows("ops")
    assert known.knows("runs")
    assert not known.knows("server")


def test_the_page_asks_confirms_and_says_who_must(client, site, ann, bea):
    client.force_login(ann)
    client.post("/sites/site-a/revocation/", {"reason": REASON})
    page = client.get("/sites/site-a/").content.decode()
    assert REASON in page
    assert "another administrator has to confirm" in page
    assert "Confirm: revoke now" not in page
    asked = Revocation.objects.get()
    assert client.post(f"/revocations/{asked.pk}/confirm/", follow=True).status_code == 200
    assert Site.objects.get().status == Site.Status.ENROLLED
    client.force_login(bea)
    assert "asks to revoke" in client.get("/sites/").content.decode()
    assert "Confirm: revoke now" in client.get("/sites/site-a/").content.decode()
    page = client.post(f"/revocations/{asked.pk}/confirm/", follow=True).content.decode()
    assert "are revoked" in page
    assert "REVOKED" in page
