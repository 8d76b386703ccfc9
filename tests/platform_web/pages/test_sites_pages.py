import html
import re
from datetime import timedelta

import pytest
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation import places
from platform_web.federation.models import Kit, Site
from site_kits.provisioning.ca import fingerprint_sha256
from tests.platform_web import world

FIELDS = {
    "name": "st-anna",
    "title": "St Anna Hospital",
    "organisation": "Anna Foundation",
    "zone": "north",
    "contact": "it@st-anna.example",
    "language": "zh-hans",
}


@pytest.fixture
def administrator(client, ann, portal):
    client.force_login(ann)
    return client


@pytest.fixture
def invitation(administrator):
    """The page that shows link and PIN, once."""
    return administrator.post("/sites/add/", FIELDS)


def shown(page, id_):
    return re.search(rf'id="{id_}"[^>]*value="([^"]+)"', page.content.decode()).group(1)


@pytest.fixture
def link(invitation):
    return shown(invitation, "kit-link").removeprefix("http://127.0.0.1:8080")


@pytest.fixture
def pin(invitation):
    return shown(invitation, "kit-pin")


@pytest.fixture
def built(link):
    """The kit's archive lies where the worker puts it."""
    kit = Kit.objects.get()
    Kit.objects.update(built_at=timezone.now(), zip_sha256=world.sha("zip"))
    path = places.kit_zip(kit.pk, world.sha("zip"))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PK the kit")
    return link


def test_inviting_a_site_shows_link_pin_and_root_once(administrator, invitation, link, pin, portal):
    assert link.startswith("/kits/")
    assert re.fullmatch(r"[0-9]{4} [0-9]{4}", pin)
    assert invitation["Cache-Control"] == "no-store"
    root = fingerprint_sha256(portal.root_certificate_pem.encode())
    assert root in invitation.content.decode().replace(" ", "")
    assert Site.objects.get().status == Site.Status.INVITED
    page = administrator.get("/sites/st-anna/").content.decode()
    assert link.split("/")[2] not in page
    assert pin not in page


def test_the_mail_is_in_the_sites_language_and_without_the_pin(invitation, link, pin):
    mail = html.unescape(
        re.search(r'<textarea id="mail-text"[^>]*>(.*?)</textarea>', invitation.content.decode(), re.S)[1]
    )
    assert link in mail
    assert "PIN" in mail
    assert "电话" in mail
    assert pin not in mail
    assert pin.replace(" ", "") not in mail


def test_the_contact_is_for_administrators_only(client, administrator, invitation, otto):
    assert "it@st-anna.example" in administrator.get("/sites/st-anna/").content.decode()
    client.force_login(otto)
    for page in ("/sites/", "/sites/st-anna/", "/sites/status.json", "/audit/"):
        assert "it@st-anna.example" not in client.get(page).content.decode(), page


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


def test_the_sheet_says_when_the_kit_is_being_prepared(client, link, pin):
    client.logout()
    assert "being prepared" in client.get(link).content.decode()
    assert client.post(link, {"pin": pin})["Content-Type"].startswith("text/html")
    assert Kit.objects.get().fetched_at is None


def test_the_kit_is_handed_out_for_the_pin_until_the_site_is_enrolled(client, built, pin):
    client.logout()
    for _again in range(2):
        answer = client.post(built, {"pin": pin})
        assert answer["Content-Type"] == "application/zip"
        assert b"".join(answer.streaming_content) == b"PK the kit"
    Kit.objects.update(enrolled_at=timezone.now())
    again = client.post(built, {"pin": pin})
    assert again.status_code == 410
    assert "was used" in again.content.decode()


def test_five_wrong_pins_lock_the_link_and_each_is_a_sentence(client, built, pin):
    client.logout()
    for left in ("4 attempts are", "3 attempts are", "2 attempts are", "one attempt is"):
        answer = client.post(built, {"pin": "x"})
        assert answer.status_code == 422
        assert f"{left} left" in answer.content.decode()
    for typed in ("x", pin):
        answer = client.post(built, {"pin": typed})
        assert answer.status_code == 410
        assert "five wrong PINs" in answer.content.decode()


def test_an_empty_pin_costs_no_attempt(client, built):
    assert client.post(built, {"pin": ""}).status_code == 422
    assert Kit.objects.get().pin_failures == 0


def test_the_line_to_paste_unpacks_and_starts_with_the_link(client, built):
    line = html.unescape(shown(client.get(built), "start-line"))
    assert line.startswith(
        "(unzip -qo consilium-kit-st-anna.zip -d consilium-st-anna || python3 -m zipfile -e"
    )
    assert line.endswith(f"&& cd consilium-st-anna && bash start.sh http://127.0.0.1:8080{built}")


def test_two_agents_with_one_identity_are_said_on_the_sites_page(administrator, link):
    Site.objects.update(twin_seen_at=timezone.now())
    assert "Two agents use this site" in administrator.get("/sites/st-anna/").content.decode()


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
