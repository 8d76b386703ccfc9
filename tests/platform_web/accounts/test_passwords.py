"""New passwords: one's own, a colleague's who forgot it, the only administrator's at the console."""

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from platform_web.accounts import passwords
from platform_web.accounts.errors import AccountError
from platform_web.accounts.management.commands import reset_password
from platform_web.accounts.models import Role
from platform_web.audit.models import AuditBody, AuditEvent
from tests.platform_web.accounts.test_second_factor import acts, give_password
from tests.platform_web.conftest import PASSWORD

NEW = "a staple for the horse"
OWN = "/account/password/"
REASON = "forgot it over the summer"


def typed(current=PASSWORD, first=NEW, second=NEW):
    return {"current": current, "password1": first, "password2": second}


def reset_of(person):
    return f"/people/{person.pk}/password/"


@pytest.fixture
def cleo(person, make_site):
    return person("cleo", Role.CLINICIAN, make_site())


def is_let_in(client):
    return client.get("/account/").status_code == 200


def may_enter(name, password):
    client = Client()
    client.post("/accounts/login/", {"username": name, "password": password})
    return is_let_in(client)


def test_anybody_changes_their_own_and_other_sessions_end(client, cleo):
    give_password(client, "cleo")
    give_password(other := Client(), "cleo")
    answer = client.post(OWN, typed(), follow=True)
    assert "Your new password counts" in answer.content.decode()
    assert is_let_in(client), "this session goes on"
    assert not is_let_in(other)
    assert acts(cleo)[-1] == "person.password_changed"
    assert (may_enter("cleo", PASSWORD), may_enter("cleo", NEW)) == (False, True)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (typed(current="wrong"), "This is not your password"),
        (typed(second=NEW + "!"), "not the same"),
        (typed(first="short", second="short"), "too short"),
        (typed(first="password123", second="password123"), "too common"),
        (typed(current=""), "required"),
        ({}, "required"),
    ],
)
def test_bad_input_is_a_sentence_and_changes_nothing(client, cleo, sent, said):
    client.force_login(cleo)
    answer = client.post(OWN, sent)
    assert said in answer.content.decode()
    assert answer.status_code == 422
    assert may_enter("cleo", PASSWORD)
    assert not AuditEvent.objects.filter(act="person.password_changed").exists()


def test_an_open_session_is_no_place_to_guess_the_password(client, cleo):
    client.force_login(cleo)
    for _ in range(8):
        client.post(OWN, typed(current="wrong"))
    assert client.post(OWN, typed()).status_code == 429
    assert not may_enter("cleo", NEW)


def test_an_administrator_gives_a_colleague_a_new_one(client, ann, cleo):
    give_password(signed := Client(), "cleo")
    client.force_login(ann)
    sent = typed() | {"reason": "short"}
    assert client.post(reset_of(cleo), sent).status_code == 422
    assert may_enter("cleo", PASSWORD)
    answer = client.post(reset_of(cleo), sent | {"reason": REASON}, follow=True)
    assert "cleo signs in with the new password now" in answer.content.decode()
    assert not is_let_in(signed), "who knows the password before it is signed out"
    assert (may_enter("cleo", PASSWORD), may_enter("cleo", NEW)) == (False, True)
    entry = AuditEvent.objects.get(act="person.password_reset")
    assert (entry.actor, entry.obj) == (f"user:{ann.pk}", f"person:{cleo.pk}")
    assert b"summer" not in bytes(entry.leaf), "what was typed is in the body, which can be erased"
    assert AuditBody.objects.filter(event_id=entry.event_id).exists()


def test_wrong_tries_before_it_no_longer_count(ann, cleo):
    for _ in range(8):
        may_enter("cleo", "wrong")
    assert not may_enter("cleo", PASSWORD)
    passwords.reset(actor=ann, person=cleo, password=NEW, reason=REASON)
    assert may_enter("cleo", NEW)


def test_who_may_not_and_whose_may_not(client, ann, dana, cleo):
    for actor, person, said in ((dana, cleo, "Only an administrator"), (ann, ann, "page of your account")):
        with pytest.raises(AccountError, match=said):
            passwords.reset(actor=actor, person=person, password=NEW, reason=REASON)
    client.force_login(dana)
    assert client.post(reset_of(cleo), typed() | {"reason": REASON}).status_code == 403
    cleo.is_active = False
    cleo.save()
    with pytest.raises(AccountError, match="deactivated"):
        passwords.reset(actor=ann, person=cleo, password=NEW, reason=REASON)
    assert not AuditEvent.objects.filter(act="person.password_reset").exists()


def test_the_admins_address_leads_to_the_page_of_the_account(client, ann):
    client.force_login(ann)
    assert client.get("/admin/password_change/").url == OWN


def test_a_console_without_a_terminal_is_told_so(ann, monkeypatch):
    def ended(_prompt):
        raise EOFError

    monkeypatch.setattr(reset_password, "getpass", ended)
    with pytest.raises(CommandError, match="No password was typed"):
        call_command("reset_password", "ann", reason=REASON)
    assert may_enter("ann", PASSWORD)


def at_the_console(monkeypatch, *typed):
    answers = iter(typed)
    monkeypatch.setattr(reset_password, "getpass", lambda _prompt: next(answers))
    call_command("reset_password", "ann", reason=REASON)


def test_the_only_administrator_is_helped_at_the_console(ann, monkeypatch):
    for two, said in (((NEW, "other"), "not the same"), (("short", "short"), "too short")):
        with pytest.raises(CommandError, match=said):
            at_the_console(monkeypatch, *two)
    assert may_enter("ann", PASSWORD)
    at_the_console(monkeypatch, NEW, NEW)
    assert may_enter("ann", NEW)
    assert AuditEvent.objects.get(act="person.password_reset").actor == "system:portal"
    with pytest.raises(CommandError, match="nobody called"):
        call_command("reset_password", "nobody", reason=REASON)
