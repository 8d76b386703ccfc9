import pytest

from platform_web.audit.models import AuditEvent
from tests.platform_web.conftest import PASSWORD


def sign_in(client, name, password=PASSWORD, **fields):
    return client.post("/accounts/login/", {"username": name, "password": password, **fields})


def test_signing_in_is_an_entry(client, ann):
    assert sign_in(client, "ann").url == "/"
    assert AuditEvent.objects.filter(act="person.signed_in", actor=f"user:{ann.pk}").count() == 1


def test_a_wrong_password_is_a_sentence_that_says_nothing_more(client, ann):
    wrong, nobody = sign_in(client, "ann", "wrong"), sign_in(client, "nobody", "wrong")
    assert (wrong.status_code, nobody.status_code) == (422, 422)
    sentence = "User name and password do not belong together"
    assert sentence in wrong.content.decode()
    assert sentence in nobody.content.decode()
    assert AuditEvent.objects.filter(act="person.sign_in_refused").count() == 2


def test_after_eight_wrong_tries_the_door_is_closed_for_a_while(client, ann):
    for _ in range(8):
        answer = sign_in(client, "ann", "wrong")
    assert answer.status_code == 429
    assert "closed for a quarter of an hour" in answer.content.decode()
    assert sign_in(client, "ann").status_code == 429


def test_the_admin_has_no_sign_in_of_its_own(client, ann):
    answer = client.get("/admin/login/?next=/admin/federation/site/")
    assert answer.url == "/accounts/login/?next=/admin/federation/site/"
    assert client.post("/admin/login/", {"username": "ann", "password": PASSWORD}).status_code == 405
    assert client.get("/admin/login/?next=https://elsewhere.example/").url == "/accounts/login/"


def test_next_never_leads_to_another_address(client, ann):
    assert sign_in(client, "ann", next="https://elsewhere.example/").url == "/"


def test_signing_out_needs_a_post(client, ann):
    client.force_login(ann)
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/").status_code == 302


@pytest.mark.parametrize("path", ["/accounts/logout/", "/sites/add/", "/clinic/ticket/", "/audit/verify/"])
def test_every_change_needs_a_token_against_forgery(ann, path):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ann)
    answer = strict.post(path, {})
    assert answer.status_code == 403
    assert "This form is out of date" in answer.content.decode()


def test_health_says_nothing(client):
    answer = client.get("/healthz")
    assert (answer.content, answer["Content-Type"]) == (b"ok\n", "text/plain")


def test_the_language_follows_the_switch(client, ann):
    client.force_login(ann)
    assert client.post("/language/", {"language": "zh-hans", "next": "/"}).url == "/"
    assert '<html lang="zh-hans">' in client.get("/").content.decode()


def test_a_request_under_a_foreign_name_is_a_sentence(client, db):
    answer = client.get("/accounts/login/", headers={"host": "rebound.example"})
    assert answer.status_code == 400
    assert "Nothing was changed" in answer.content.decode()


def test_a_visitor_of_a_page_that_is_not_there_gets_a_page(client, db):
    answer = client.get("/nowhere/")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.content.decode()
