"""The second factor as a person meets it: enrolment, the step after the password, recovery, a lost phone."""

import base64
import json
import re
import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from platform_web.accounts import factors, pending
from platform_web.accounts.errors import AccountError
from platform_web.accounts.models import RecoveryCode, SecondFactor
from platform_web.audit.models import AuditBody, AuditEvent
from tests.platform_web.conftest import PASSWORD
from tests.platform_web.phones import Phone, enrol

STEP = "/accounts/second-factor/"
RECOVERY = re.compile(r"<li>((?:[0-9a-z]{4}-){3}[0-9a-z]{4})</li>")


@pytest.fixture
def phone(clock, ann):
    """Ann's, enrolled a step ago."""
    phone, phone.codes = enrol(ann)  # the recovery codes lie beside it
    clock.forward()
    return phone


def give_password(client, name="ann", **fields):
    return client.post("/accounts/login/", {"username": name, "password": PASSWORD, **fields})


def give_code(client, code):
    return client.post(STEP, {"code": code})


def signed_in(client):
    return "_auth_user_id" in client.session


def acts(person):
    found = AuditEvent.objects.filter(obj__contains=f"person:{person.pk}") | AuditEvent.objects.filter(
        actor=f"user:{person.pk}"
    )
    return list(found.exclude(act="person.added").order_by("number").values_list("act", flat=True))


def test_who_must_have_one_lands_on_enrolment_and_is_nobody_until_then(client, clock, required, ann):
    assert give_password(client, next="/sites/").url == STEP
    assert not signed_in(client)
    page = client.get(STEP)
    assert page["Cache-Control"].count("no-store") == 1
    text = page.content.decode()
    assert "Nothing else opens until this is done" in text
    assert "<svg" in text
    assert "style=" not in text
    assert "data:" not in text
    assert client.get("/sites/").url.startswith("/accounts/login/")
    assert client.get(STEP).content.decode().count(Phone.shown(text).code()) == 0
    codes = client.post(STEP, {"code": Phone.shown(text).code()})
    assert len(RECOVERY.findall(codes.content.decode())) == 10
    assert 'href="/sites/"' in codes.content.decode()
    assert client.get("/sites/").status_code == 200
    assert acts(ann) == ["person.factor_enrolled", "person.signed_in"]


def test_a_wrong_code_enrols_nobody(client, clock, required, ann):
    give_password(client)
    page = client.get(STEP).content.decode()
    answer = client.post(STEP, {"code": "000000" if Phone.shown(page).code() != "000000" else "000001"})
    assert answer.status_code == 422
    assert "This is not the code of the app" in answer.content.decode()
    assert Phone.shown(answer.content.decode()) == Phone.shown(page), "the same secret is offered again"
    assert not SecondFactor.objects.exists()


def test_the_code_is_asked_for_and_signs_in_once(client, clock, ann, phone):
    assert give_password(client, next="/people/").url == STEP
    assert not signed_in(client)
    code = phone.code()
    assert give_code(client, f"{code[:3]} {code[3:]}").url == "/people/"
    assert signed_in(client)
    assert acts(ann)[-2:] == ["person.factor_accepted", "person.signed_in"]
    thief = Client()
    give_password(thief)
    answer = give_code(thief, code)
    assert answer.status_code == 422
    assert "was used before" in answer.content.decode()
    assert not signed_in(thief)
    assert acts(ann)[-1] == "person.factor_refused"
    assert json.loads(bytes(AuditEvent.objects.latest("number").leaf))["out"] == "deny"


def test_the_code_that_enrolled_signs_nobody_in(client, clock, ann):
    phone, _codes = enrol(ann)
    give_password(client)
    assert give_code(client, phone.code()).status_code == 422


@pytest.mark.parametrize(("away", "status"), [(-60, 422), (-30, 302), (30, 302), (60, 422)])
def test_clocks_may_differ_by_one_step(client, clock, ann, away, status):
    phone, _codes = enrol(ann)
    clock.forward(300)
    give_password(client)
    clock.forward(away)
    code = phone.code()
    clock.forward(-away)
    assert give_code(client, code).status_code == status


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "-" * 40, "\x00", "0" * 5000])
def test_rubbish_is_a_wrong_code(client, clock, phone, typed):
    give_password(client)
    assert give_code(client, typed).status_code == 422


def test_a_recovery_code_works_once(client, clock, ann, phone):
    typed = phone.codes[3].upper().replace("-", " ")
    give_password(client)
    assert give_code(client, typed).url == "/"
    entry = AuditEvent.objects.get(act="person.recovery_code_used")
    assert json.loads(bytes(entry.leaf))["data"] == {"left": 9}
    again = Client()
    give_password(again)
    assert give_code(again, typed).status_code == 422


def test_nothing_in_the_rows_or_the_log_opens_anything(client, clock, ann, phone):
    give_password(client)
    give_code(client, phone.codes[0])
    row = SecondFactor.objects.get()
    assert phone.secret not in bytes(row.secret_sealed)
    stored = [one.digest for one in RecoveryCode.objects.all()]
    assert len(stored) == 9
    told = " ".join([*stored, *(bytes(event.leaf).decode() for event in AuditEvent.objects.all())])
    for code in phone.codes:
        assert code not in told
        assert code.replace("-", "") not in told


def test_the_drafted_secret_is_sealed_in_its_session(client, clock, required, ann):
    give_password(client)
    phone = Phone.shown(client.get(STEP).content.decode())
    assert phone.secret.hex() not in json.dumps(dict(client.session)).lower()
    assert phone.secret not in base64.b64decode(client.session[pending.DRAFT])


def test_wrong_codes_close_the_door_as_wrong_passwords_do(client, clock, ann, phone):
    give_password(client)
    statuses = [give_code(client, "000000").status_code for _ in range(8)]
    assert statuses == [422] * 7 + [429]
    assert client.get(STEP).status_code == 429
    assert give_code(client, phone.code()).status_code == 429
    assert give_password(Client()).status_code == 429


def test_the_right_password_does_not_forgive_wrong_codes(client, clock, ann, phone):
    for _ in range(7):
        give_password(client)
        assert give_code(client, "000000").status_code == 422
    give_password(client)
    assert give_code(client, "000000").status_code == 429


def test_wrong_codes_from_everywhere_make_everybody_wait(client, clock, ann, phone):
    for number in range(5):
        elsewhere = Client(REMOTE_ADDR=f"192.0.2.{number}")
        give_password(elsewhere)
        give_code(elsewhere, "000000")
        passed(1 << number)
    SecondFactor.objects.update(throttling_failure_timestamp=timezone.now())
    give_password(client)
    answer = give_code(client, phone.code())
    assert answer.status_code == 422
    assert "Too many wrong codes. Wait 16 seconds" in answer.content.decode()
    passed(17)
    assert give_code(client, phone.code()).status_code == 302
    assert SecondFactor.objects.get().throttling_failure_count == 0


def passed(seconds):
    """As if that much time had passed since the last wrong code."""
    row = SecondFactor.objects.get()
    SecondFactor.objects.update(
        throttling_failure_timestamp=row.throttling_failure_timestamp - timedelta(seconds=seconds)
    )


@pytest.mark.parametrize("change", ["time", "password", "person", "factor"])
def test_what_the_password_began_ends(client, clock, ann, phone, change, monkeypatch):
    give_password(client)
    if change == "time":
        later = pending.time.time() + pending.LIFETIME_S + 1
        monkeypatch.setattr(pending.time, "time", lambda: later)
    elif change == "password":
        ann.set_password("another one entirely")
        ann.save()
    elif change == "person":
        ann.is_active = False
        ann.save()
    else:
        SecondFactor.objects.all().delete()
    answer = give_code(client, phone.code())
    assert answer.url == "/accounts/login/"
    assert not signed_in(client)


def test_a_session_without_the_factor_that_its_person_has_ends(client, ann, clock):
    client.force_login(ann)
    assert client.get("/sites/").status_code == 200
    enrol(ann)
    answer = client.get("/sites/")
    assert answer.url == "/accounts/login/?next=/sites/"
    assert not signed_in(client)
    assert "Sign in again" in client.get(answer.url).content.decode()
    assert acts(ann)[-1] == "person.signed_out"


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
