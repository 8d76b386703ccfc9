import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client

from platform_web.federation import services
from platform_web.federation.models import Certificate, Dataset, Site
from site_kits import signing
from site_kits.signing import sign_request
from tests.platform_web.signed import csr, is_problem, signed

HEARTBEAT = {"agent_version": "0.1.0", "client": {"state": "running", "restarts": 0}, "datasets": []}
SHA = "c" * 64


def orders(site):
    return [{"promotion": 1, "site": site.name}]


def may_read(site, sha256):
    return site.name == "site-a" and sha256 == SHA


@pytest.fixture(autouse=True)
def door(settings):
    settings.ROOT_URLCONF = "platform_web.agent_urls"
    settings.MIDDLEWARE = settings.AGENT_MIDDLEWARE
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
    settings.HEARTBEAT_PROVIDERS = {"serve": f"{__name__}.orders"}
    settings.ARTIFACT_POLICY = f"{__name__}.may_read"


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def built(invite):
    invitation = invite()
    services.record_kit_built(kit=invitation.kit, zip_sha256="0" * 64)
    return invitation


@pytest.fixture
def enrolled(built, key):
    return services.enrol_site(name="site-a", token=built.token, pin=built.pin, csr_pem=csr(key, "site-a"))


@pytest.fixture
def request_body(built, key):
    """What the site's agent posts to enrol."""
    return {"site": "site-a", "token": built.token, "pin": built.pin, "csr_pem": csr(key, "site-a")}


def post(path, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Client().post(f"/agent/v1/{path}", content, content_type="application/json", headers=headers)


def test_enrolment_answers_certificate_root_serial_last_day_and_peers(request_body):
    response = post("enrol", request_body)
    assert response.status_code == 201
    assert set(response.json()) == {"certificate_pem", "root_ca_pem", "serial", "not_after", "peers"}


def test_a_used_or_wrong_link_is_401(request_body):
    assert is_problem(post("enrol", request_body | {"token": "w" * 43}), 401, "token")
    post("enrol", request_body)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert is_problem(post("enrol", request_body | {"csr_pem": csr(other, "site-a")}), 401, "used")


def test_five_wrong_pins_lock_the_link(request_body):
    wrong = request_body | {"pin": "x"}
    for _attempt in range(4):
        assert is_problem(post("enrol", wrong), 401, "pin")
    assert is_problem(post("enrol", wrong), 401, "locked")
    assert is_problem(post("enrol", request_body), 401, "locked")


def test_a_request_for_another_name_is_409_and_a_bad_one_422(request_body, key):
    body = request_body | {"csr_pem": csr(key, "site-b")}
    assert is_problem(post("enrol", body), 409, "other_name")
    assert is_problem(post("enrol", body | {"csr_pem": "rubbish"}), 422, "certificate_request")
    assert not Certificate.objects.exists()


def test_the_second_of_two_agents_is_409_and_its_report_is_not_kept(enrolled, key):
    def beat(instance):
        report = HEARTBEAT | {"instance": instance * 32}
        return signed(key, enrolled, "POST", "heartbeat", json.dumps(report).encode())[0]

    assert [beat(instance).status_code for instance in "aba"] == [200] * 3
    assert is_problem(beat("b"), 409, "twin")
    assert Site.objects.get().heartbeat["instance"] == "a" * 32


def test_a_clock_a_day_off_is_told_how_far(enrolled, key, monkeypatch):
    real = time.time
    monkeypatch.setattr(signing.time, "time", lambda: real() - 86_400)
    headers = sign_request(
        key, site="site-a", serial=enrolled.serial, method="POST", path="/agent/v1/heartbeat", body=b"{}"
    )
    monkeypatch.undo()
    response = post("heartbeat", b"{}", **headers)
    assert is_problem(response, 401, "signature")
    assert "clock is 24 h 0 min behind" in response.json()["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"site":"site-a"}', b'{"site":1}', b"[" * 100_000]
)
def test_rubbish_is_422(built, body):
    assert is_problem(post("enrol", body), 422, "invalid")


def test_a_body_over_one_mebibyte_is_413(built):
    assert is_problem(post("enrol", b"x" * (1024 * 1024 + 1)), 413, "too_large")


def test_a_heartbeat_marks_the_site_and_answers_what_to_serve(enrolled, key, settings):
    response, _ = signed(key, enrolled, "POST", "heartbeat", json.dumps(HEARTBEAT).encode())
    answer = response.json()
    assert response.status_code == 200, answer
    assert answer["serve"] == [{"promotion": 1, "site": "site-a"}]
    assert answer["web_origin"] == settings.CONSILIUM_WEB_ORIGIN
    assert answer["ticket_keys"][0]["kid"]
    assert Site.objects.get().heartbeat_at


def test_a_replayed_request_is_refused(enrolled, key):
    body = json.dumps(HEARTBEAT).encode()
    _, headers = signed(key, enrolled, "POST", "heartbeat", body)
    assert is_problem(post("heartbeat", body, **headers), 401, "signature")


def test_an_altered_body_is_refused_and_does_not_burn_the_nonce(enrolled, key):
    body = json.dumps(HEARTBEAT).encode()
    headers = sign_request(
        key, site="site-a", serial=enrolled.serial, method="POST", path="/agent/v1/heartbeat", body=body
    )
    assert is_problem(post("heartbeat", body + b" ", **headers), 401, "signature")
    assert post("heartbeat", body, **headers).status_code == 200


def test_an_unsigned_request_is_refused(enrolled):
    assert is_problem(post("heartbeat", HEARTBEAT), 401, "signature")


def test_a_revoked_certificate_and_a_suspended_site_are_refused(enrolled, key, ann):
    site = Site.objects.get()
    services.suspend_site(actor=ann, site=site)
    assert is_problem(signed(key, enrolled, "POST", "heartbeat", b"{}")[0], 401, "suspended")
    services.resume_site(actor=ann, site=site)
    Certificate.objects.update(revoked_at=site.created)
    assert is_problem(signed(key, enrolled, "POST", "heartbeat", b"{}")[0], 401, "revoked")


def test_a_site_cannot_sign_as_another(enrolled, key, make_site):
    make_site("site-b")
    assert is_problem(signed(key, enrolled, "POST", "heartbeat", b"{}", site="site-b")[0], 401, "signature")


@pytest.mark.parametrize(
    "change",
    [
        {"datasets": [{"name": "../x"}]},
        {"datasets": [{}] * 51},
        {"inference": {"url": "javascript:alert(1)"}},
        {"client": {"restarts": -1}},
        {"certificate_days_left": float("nan")},
        {"started_at": float("inf")},
        {"agent_version": "1\x00"},
    ],
)
def test_a_bad_report_is_422_and_changes_nothing(enrolled, key, change):
    response, _ = signed(key, enrolled, "POST", "heartbeat", json.dumps(HEARTBEAT | change).encode())
    assert is_problem(response, 422, "invalid")
    assert Site.objects.get().heartbeat_at is None
    assert not Dataset.objects.exists()


def test_an_artifact_is_read_by_digest_by_sites_of_its_run_only(enrolled, key, home):
    path = f"artifacts/sha256/{SHA}"
    assert is_problem(signed(key, enrolled, "GET", path)[0], 404, "not_found")
    (home / "artifacts" / "sha256").mkdir(parents=True)
    (home / "artifacts" / "sha256" / SHA).write_bytes(b"weights")
    response, _ = signed(key, enrolled, "GET", path)
    assert b"".join(response.streaming_content) == b"weights"
    assert is_problem(signed(key, enrolled, "GET", f"artifacts/sha256/{'d' * 64}")[0], 404, "not_found")
    assert is_problem(Client().get(f"/agent/v1/{path}"), 401, "signature")


@pytest.mark.parametrize("digest", ["..%2f..%2fdb.sqlite3", "x", "C" * 64, "c" * 63])
def test_a_name_that_is_no_digest_is_not_found(enrolled, key, digest):
    response, _ = signed(key, enrolled, "GET", f"artifacts/sha256/{digest}")
    assert response.status_code in {401, 404}


@pytest.mark.parametrize("path", ["/", "/admin/", "/accounts/login/", "/agent/v1/", "/static/x.js"])
def test_the_agents_door_serves_nothing_else(db, path):
    assert is_problem(Client().get(path), 404, "not_found")


def test_the_wrong_method_is_405(db):
    assert is_problem(Client().get("/agent/v1/enrol"), 405, "wrong_method")
