import pytest
from django.test import Client

from platform_web.audit.models import AuditEvent
from platform_web.federation.models import Site


def signed_in(user):
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def admin_pages(ann):
    return signed_in(ann)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "federation/site/",
        "federation/kit/",
        "federation/certificate/",
        "federation/dataset/",
        "outbox/task/",
        "auth/user/",
    ],
)
def test_an_administrator_sees_the_rows(admin_pages, invite, path):
    invite()
    assert admin_pages.get(f"/admin/{path}").status_code == 200


def test_nobody_edits_a_row_in_the_admin(admin_pages, make_site):
    site = make_site()
    page = f"/admin/federation/site/{site.pk}/change/"
    assert admin_pages.get(page).status_code == 200
    assert admin_pages.post(page, {"status": "suspended"}).status_code == 403
    assert admin_pages.get("/admin/federation/site/add/").status_code == 403
    assert admin_pages.post(f"/admin/federation/site/{site.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Site.objects.get().status == Site.Status.ENROLLED


def test_an_action_of_the_admin_is_a_service_with_its_entry(admin_pages, make_site):
    site = make_site()
    admin_pages.post("/admin/federation/site/", {"action": "suspend", "_selected_action": [site.pk]})
    assert Site.objects.get().status == Site.Status.SUSPENDED
    assert AuditEvent.objects.filter(act="site.suspended", site="site-a").exists()


def test_sealed_keys_and_token_hashes_are_not_shown(admin_pages, invite):
    kit = invite().kit
    page = admin_pages.get(f"/admin/federation/kit/{kit.pk}/change/").content.decode()
    assert kit.link_sha256 not in page


def test_people_of_a_site_do_not_reach_the_admin(two_sites):
    for user in (two_sites.cleo, two_sites.olaf):
        assert signed_in(user).get("/admin/federation/site/").status_code in {302, 403}


def test_evaluating_strings_is_allowed_below_admin_only(admin_pages):
    assert "'unsafe-eval'" in admin_pages.get("/admin/")["Content-Security-Policy"]
    elsewhere = admin_pages.get("/sites/")["Content-Security-Policy"]
    assert "unsafe" not in elsewhere
    assert "'nonce-" in elsewhere
