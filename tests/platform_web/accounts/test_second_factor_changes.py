"""Changes to a second factor: off, new codes, another phone, a lost one."""

import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from platform_web.accounts import factors
from platform_web.accounts.errors import AccountError
from platform_web.accounts.models import SecondFactor
from platform_web.audit.models import AuditBody, AuditEvent
from tests.platform_web.accounts.test_second_factor import (
    RECOVERY,
    STEP,
    acts,
    give_code,
    give_password,
    passed,
    signed_in,
)
from tests.platform_web.conftest import PASSWORD
from tests.platform_web.phones import Phone


def enter(client, phone, name="ann"):
    give_password(client, name)
    give_code(client, phone.code())
    assert signed_in(client)


def test_turning_it_off_takes_password_and_code_and_ends_other_sessions(client, clock, ann, phone):
    other = Client()
    enter(client, phone)
    clock.forward()
    enter(other, phone)
    clock.forward()
    path = "/account/second-factor/off/"
    client.post(path, {"password": "wrong", "code": phone.code()})
    client.post(path, {"password": PASSWORD, "code": "000000"})
    assert SecondFactor.objects.exists()
    passed(2)
    answer = client.post(path, {"password": PASSWORD, "code": phone.code()}, follow=True)
    assert "your password alone signs you in" in answer.content.decode()
    assert not SecondFactor.objects.exists()
    assert acts(ann)[-2:] == ["person.factor_accepted", "person.factor_removed"]
    assert client.get("/account/").status_code == 200
    assert other.get("/account/").url.startswith("/accounts/login/")


def test_who_must_have_one_cannot_turn_it_off(client, clock, ann, phone, required):
    enter(client, phone)
    clock.forward()
    sent = {"password": PASSWORD, "code": phone.code()}
    answer = client.post("/account/second-factor/off/", sent, follow=True)
    assert "Your role needs a second factor" in answer.content.decode()
    assert SecondFactor.objects.exists()


def test_new_recovery_codes_replace_the_old(client, clock, ann, phone):
    enter(client, phone)
    clock.forward()
    answer = client.post("/account/recovery-codes/", {"code": phone.code()})
    fresh = RECOVERY.findall(answer.content.decode())
    assert len(set(fresh)) == 10
    assert set(fresh) & set(phone.codes) == set()
    assert acts(ann)[-1] == "person.recovery_codes_made"
    assert not factors.check_code(person=ann, code=phone.codes[0]).accepted
    passed(2)
    assert factors.check_code(person=ann, code=fresh[0]).accepted


def test_another_phone_needs_the_first_or_a_recovery_code(client, clock, ann, phone):
    enter(client, phone)
    clock.forward()
    path = "/account/second-factor/"
    new = Phone.shown(client.get(path).content.decode())
    refused = client.post(path, {"code": new.code(), "current": new.code()})
    assert refused.status_code == 422
    passed(2)
    done = client.post(path, {"code": new.code(), "current": phone.codes[0]})
    assert len(RECOVERY.findall(done.content.decode())) == 10
    assert client.get("/account/").status_code == 200, "this session goes on"
    clock.forward()
    assert not factors.check_code(person=ann, code=phone.code()).accepted
    passed(2)
    assert factors.check_code(person=ann, code=new.code()).accepted


def test_anybody_may_have_one(client, clock, dana):
    client.force_login(dana)
    page = client.get("/account/second-factor/").content.decode()
    client.post("/account/second-factor/", {"code": Phone.shown(page).code()})
    assert client.get("/account/").status_code == 200
    assert "Recovery codes left" in client.get("/account/").content.decode()
    assert give_password(Client(), "dana").url == STEP


def test_a_colleague_resets_a_lost_factor_with_a_reason(client, clock, ann, person, phone):
    enter(other := Client(), phone)
    bea = person("bea", "administrator")
    client.force_login(bea)
    path = f"/people/{ann.pk}/second-factor/reset/"
    client.post(path, {"reason": "lost"})
    assert SecondFactor.objects.exists()
    client.post(path, {"reason": "phone stolen on the tram"})
    assert not SecondFactor.objects.exists()
    entry = AuditEvent.objects.get(act="person.factor_reset")
    assert (entry.actor, entry.obj) == (f"user:{bea.pk}", f"person:{ann.pk}")
    assert b"tram" not in bytes(entry.leaf), "what was typed is in the body, which can be erased"
    assert AuditBody.objects.filter(event_id=entry.event_id).exists()
    assert other.get("/people/").url.startswith("/accounts/login/"), "sessions of the lost phone end"


def test_nobody_resets_their_own_and_only_administrators_reset(client, clock, ann, dana, phone):
    with pytest.raises(AccountError, match="your own"):
        factors.reset(actor=ann, person=ann, reason="phone stolen on the tram")
    with pytest.raises(AccountError, match="Only an administrator"):
        factors.reset(actor=dana, person=ann, reason="phone stolen on the tram")
    client.force_login(dana)
    assert client.post(f"/people/{ann.pk}/second-factor/reset/", {"reason": "x" * 20}).status_code == 403
    assert SecondFactor.objects.exists()


@pytest.mark.parametrize("reason", ["", "short", "two\x00bytes of nothing", "x" * 501])
def test_a_reason_is_one_line(ann, person, phone, reason):
    with pytest.raises(AccountError):
        factors.reset(actor=person("bea", "administrator"), person=ann, reason=reason)


def test_the_only_administrator_is_helped_at_the_console(ann, phone, capsys):
    call_command("reset_second_factor", "ann", reason="phone and codes lost")
    assert not SecondFactor.objects.exists()
    assert AuditEvent.objects.get(act="person.factor_reset").actor == "system:portal"
    with pytest.raises(CommandError, match="has no second factor"):
        call_command("reset_second_factor", "ann", reason="phone and codes lost")
    with pytest.raises(CommandError, match="nobody called"):
        call_command("reset_second_factor", "nobody", reason="phone and codes lost")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["app", "recovery"])
@pytest.mark.skipif(connection.vendor == "sqlite", reason="its test database is one connection's memory")
def test_of_two_who_use_one_code_at_once_one_gets_in(clock, ann, phone, what):
    code, got, start = phone.code() if what == "app" else phone.codes[0], [], threading.Barrier(2)

    def use():
        start.wait()
        try:
            got.append(factors.check_code(person=ann, code=code).accepted)
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False, True]
