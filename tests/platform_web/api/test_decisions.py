"""The agents' door for requests and decisions: signed twice, kept as evidence, blind for strangers."""

import json

import pytest
from cryptography import x509
from django.test import Client

from platform_web.federation.models import Certificate, Site
from platform_web.training.models import RunApproval
from site_kits.decisions import DecisionStatement, sign_decision, verify_decision
from tests.platform_web import world
from tests.platform_web.api.test_agents import built, csr, door, enrolled, is_problem, key, signed  # noqa: F401
from tests.platform_web.finished import sha

SHA = sha("policy")


@pytest.fixture
def run(enrolled, dana, make_site):  # noqa: F811
    site = Site.objects.get(name="site-a")
    others = [make_site(name) for name in ("site-b", "site-c")]
    return world.asked_run(
        dana, world.open_study(dana), [world.bring_online(each) for each in (site, *others)]
    )


def decision(key, run, **facts):  # noqa: F811
    statement = {
        "site": "site-a", "run_id": str(run.pk), "run_digest": run.run_digest, "approve": True,
        "by": "person", "policy_digest": SHA, "decided_at": "2026-12-01T00:00:00.000+00:00", **facts,
    }  # fmt: skip
    return json.dumps(sign_decision(key, DecisionStatement(**statement))).encode()


def test_the_heartbeat_names_what_waits_and_the_request_is_the_specification(key, enrolled, run, settings):  # noqa: F811
    settings.HEARTBEAT_PROVIDERS = {"requests": "platform_web.training.requests.pending_requests"}
    answer, _ = signed(key, enrolled, "POST", "heartbeat", b'{"agent_version": "1"}')
    assert answer.json()["requests"] == [{"run": str(run.pk), "digest": run.run_digest}]
    answer, _ = signed(key, enrolled, "GET", f"requests/{run.pk}")
    assert answer.json()["run_digest"] == run.run_digest
    assert answer.json()["sites"] == ["site-a", "site-b", "site-c"]


def test_a_decision_is_kept_with_its_evidence(key, enrolled, run):  # noqa: F811
    body = decision(key, run)
    answer, _ = signed(key, enrolled, "POST", f"requests/{run.pk}/decision", body)
    assert answer.json() == {"state": "APPROVED"}
    row = RunApproval.objects.get(run=run, site__name="site-a")
    certificate = Certificate.objects.get(serial=row.serial)
    proven = verify_decision(
        x509.load_pem_x509_certificate(certificate.pem.encode()), row.statement, row.signature
    )
    assert (proven.run_digest, proven.approve, proven.policy_digest) == (run.run_digest, True, SHA)


def test_what_is_not_this_sites_signed_decision_is_refused(key, enrolled, run, rsa_key):  # noqa: F811
    path = f"requests/{run.pk}/decision"
    good = json.loads(decision(key, run))
    for body, status, code in [
        (decision(rsa_key, run), 401, "signature"),
        (
            json.dumps(good | {"statement": good["statement"].replace("true", "false")}).encode(),
            401,
            "signature",
        ),
        (json.dumps(good | {"statement": good["statement"] + " "}).encode(), 401, "signature"),
        (decision(key, run, site="site-b"), 409, "refused"),
        (decision(key, run, run_digest="0" * 64), 409, "refused"),
        (decision(key, run, run_id="0" * 36), 401, "signature"),
        (b"{}", 422, "invalid"),
    ]:
        answer, _ = signed(key, enrolled, "POST", path, body)
        assert is_problem(answer, status, code)
    assert is_problem(
        Client().post(f"/agent/v1/{path}", good, content_type="application/json"), 401, "signature"
    )
    assert not RunApproval.objects.exclude(state="WAITING").exists()


def test_a_site_that_is_not_asked_sees_no_request(key, enrolled, run):  # noqa: F811
    RunApproval.objects.filter(site__name="site-a").delete()
    answer, _ = signed(key, enrolled, "GET", f"requests/{run.pk}")
    assert is_problem(answer, 404, "not_found")
    answer, _ = signed(key, enrolled, "POST", f"requests/{run.pk}/decision", decision(key, run))
    assert is_problem(answer, 409, "refused")


@pytest.fixture(scope="module")
def rsa_key():
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
