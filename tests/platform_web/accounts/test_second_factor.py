"""The second factor as a person meets it: enrolment, the step after the password, recovery, a lost phone."""

import base64
import json
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from platform_web.accounts import pending
from platform_web.accounts.models import RecoveryCode, SecondFactor
from platform_web.audit.models import AuditEvent
from tests.platform_web.conftest import PASSWORD
from tests.platform_web.phones import Phone, enrol

STEP = "/accounts/second-factor/"
RECOVERY = re.compile(r"<li>((?:[0-9a-z]{4}-){3}[0-9a-z]{4})</li>")


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
