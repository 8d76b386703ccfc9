import time

import pytest

from platform_web.audit.models import AuditEvent
from platform_web.federation.authority import public_ticket_keys
from platform_web.registry import services as registry
from site_kits.tickets import load_public_key, verify_ticket


@pytest.fixture
def signed_in(client, two_sites):
    client.force_login(two_sites.cleo)
    return client


def test_the_ticket_is_for_the_own_site_and_five_minutes(signed_in, rows):
    answer = signed_in.post("/clinic/ticket/", {"promotion": rows.promotions[0].pk}).json()
    keys = {entry.kid: load_public_key(entry.public_key) for entry in public_ticket_keys()}
    claims = verify_ticket(keys, answer["ticket"], site="site-a", now=time.time())
    assert (claims.study, claims.promotion) == ("breast-cytology", rows.promotions[0].pk)
    assert answer["expires"] - time.time() <= 300
    assert answer["url"] == "http://127.0.0.1:9"


def test_the_ticket_names_a_pseudonym_and_the_log_the_person(signed_in, rows, two_sites):
    signed_in.post("/clinic/ticket/", {"promotion": rows.promotions[0].pk})
    event = AuditEvent.objects.get(act="ticket.issued")
    assert (event.site, event.actor) == ("site-a", f"user:{two_sites.cleo.pk}")


@pytest.mark.parametrize("promotion", ["", "x", "999", "1e3", "9" * 40])
def test_a_model_that_is_not_theirs_is_not_found(signed_in, rows, promotion):
    answer = signed_in.post("/clinic/ticket/", {"promotion": promotion})
    assert answer.status_code == 404
    assert "no such model" in answer.json()["detail"]
    assert not AuditEvent.objects.filter(act="ticket.issued").exists()


def test_the_partners_model_is_not_found(signed_in, rows):
    assert signed_in.post("/clinic/ticket/", {"promotion": rows.promotions[1].pk}).status_code == 404


def test_a_withdrawn_model_gets_a_sentence(signed_in, rows, ann):
    registry.withdraw(promotion_id=rows.promotions[0].pk, actor=ann, reason="It was replaced by hand.")
    answer = signed_in.post("/clinic/ticket/", {"promotion": rows.promotions[0].pk})
    assert answer.status_code == 409
    assert "withdrawn" in answer.json()["detail"]


def test_the_page_may_talk_to_exactly_the_sites_own_address(signed_in, rows, two_sites):
    two_sites.a.refresh_from_db()
    policy = signed_in.get("/clinic/")["Content-Security-Policy"]
    connect = next(part for part in policy.split(";") if part.strip().startswith("connect-src"))
    assert connect.split() == ["connect-src", "'self'", two_sites.a.inference_url]
    other = signed_in.get("/accounts/login/", follow=False)
    assert two_sites.a.inference_url not in other.get("Content-Security-Policy", "")


def test_a_clinician_without_a_model_is_told_so(client, person, make_site, portal):
    client.force_login(person("clara", "clinician", make_site("site-z")))
    assert "No model serves your institution yet" in client.get("/clinic/").content.decode()
