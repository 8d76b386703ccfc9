import re
from datetime import timedelta

import pytest
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation import places
from platform_web.federation.models import Kit, Site
from tests.platform_web import world

FIELDS = {"name": "st-anna", "title": "St Anna Hospital", "organisation": "Anna Foundation", "zone": "north"}


@pytest.fixture
def administrator(client, ann, portal):
    client.force_login(ann)
    return client


@pytest.fixture
def link(administrator):
    page = administrator.post("/sites/add/", FIELDS).content.decode()
    return (
        re.search(r'id="kit-link"[^>]*value="([^"]+)"', page).group(1).removeprefix("http://127.0.0.1:8080")
    )


@pytest.fixture
def built(link):
    """The kit's archive lies where the worker puts it."""
    kit = Kit.objects.get()
    Kit.objects.update(built_at=timezone.now(), zip_sha256=world.sha("zip"))
    path = places.kit_zip(kit.pk, world.sha("zip"))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PK the kit")
    return link


def test_adding_a_site_shows_its_link_once(administrator, link):
    assert link.startswith("/kits/")
    assert Site.objects.get().status == Site.Status.INVITED
    token = link.split("/")[2]
    assert token not in administrator.get("/sites/st-anna/").content.decode()


@pytest.mark.parametrize(
    "name", ["", "St-Anna", "-anna", "anna_b", "server", "add", "cards", "a" * 64, "anna\n"]
)
def test_a_bad_name_is_a_sentence_and_changes_nothing(administrator, name):
    answer = administrator.post("/sites/add/", FIELDS | {"name": name})
    if name == "anna\n":  # the browser's line end is white space, which is trimmed
        assert answer.status_code == 200
        return
    assert answer.status_code == 422
    assert 'class="error"' in answer.content.decode()
    assert not Site.objects.exists()


def test_a_taken_name_is_a_sentence_and_changes_nothing(administrator, link):
    before = AuditEvent.objects.count()
    answer = administrator.post("/sites/add/", FIELDS)
    assert "There is a site called st-anna already" in answer.content.decode()
    assert (Site.objects.count(), AuditEvent.objects.count()) == (1, before)


def test_the_sheet_says_when_the_kit_is_being_prepared(client, link):
    client.logout()
    assert "being prepared" in client.get(link).content.decode()
    assert client.post(link)["Content-Type"].startswith("text/html")
    assert Kit.objects.get().fetched_at is None


def test_the_kit_is_handed_out_once(client, built):
    client.logout()
    answer = client.post(built)
    assert answer["Content-Type"] == "application/zip"
    assert b"".join(answer.streaming_content) == b"PK the kit"
    again = client.post(built)
    assert again.status_code == 410
    assert "fetched before" in again.content.decode()
    assert not places.kit_zip(Kit.objects.get().pk, world.sha("zip")).exists()


def test_a_missing_archive_does_not_cost_the_link(client, built):
    places.kit_zip(Kit.objects.get().pk, world.sha("zip")).unlink()
    client.post(built)
    assert Kit.objects.get().fetched_at is None


def test_a_link_ends_after_its_time(client, built):
    Kit.objects.update(link_expires=timezone.now() - timedelta(seconds=1))
    answer = client.get(built)
    assert answer.status_code == 410
    assert "72 hours" in answer.content.decode()


def test_a_made_up_link_is_not_found(client, portal):
    assert client.get("/kits/made-up/").status_code == 404


def test_status_says_what_is_missing(administrator, link):
    row = administrator.get("/sites/status.json").json()["sites"][0]
    assert (row["name"], row["online"], row["rows"]) == ("st-anna", False, 0)
    assert "has not been started" in row["missing"]
    world.bring_online(Site.objects.get())
    row = administrator.get("/sites/status.json").json()["sites"][0]
    assert (row["online"], row["missing"], row["rows"]) == (True, "", 142)


def test_people_are_added_with_one_role_and_a_site_where_one_is_needed(administrator, link):
    person = {
        "username": "cleo",
        "role": "clinician",
        "site": "st-anna",
        "password1": "correct horse battery",
    }
    assert administrator.post("/people/add/", person | {"password2": "another"}).status_code == 422
    assert (
        administrator.post(
            "/people/add/", person | {"password2": "correct horse battery", "site": ""}
        ).status_code
        == 422
    )
    answer = administrator.post("/people/add/", person | {"password2": "correct horse battery"}, follow=True)
    assert "cleo can sign in now" in answer.content.decode()
    assert ">cleo<" in answer.content.decode()


@pytest.mark.parametrize(
    "changes", [{"site": "nowhere"}, {"role": "king"}, {"password1": "short", "password2": "short"}]
)
def test_a_person_who_cannot_be_is_a_sentence(administrator, link, changes):
    person = {
        "username": "cleo",
        "role": "clinician",
        "site": "st-anna",
        "password1": "correct horse battery",
        "password2": "correct horse battery",
        **changes,
    }
    answer = administrator.post("/people/add/", person)
    assert answer.status_code == 422
    assert re.search(r'class="(error|note bad)"', answer.content.decode())
