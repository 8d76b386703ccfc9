"""Renewing and leaving through the agents' door, and what a certificate that does not count hears there."""

import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from django.utils import timezone

from fl_jobs.packaging.allow_list import AllowList
from platform_web.accounts.models import Role
from platform_web.audit.models import AuditEvent
from platform_web.federation import allow_list, authority, places, services
from platform_web.federation.models import Certificate, Site
from site_kits.certificate_dates import CLOCK_SKEW, renew_from
from site_kits.errors import CertificateRequestError
from tests.platform_web.conftest import enrolled_by
from tests.platform_web.signed import is_problem, signed

SHA = "c" * 64
BEAT = json.dumps({"agent_version": "0.1.0"}).encode()


def may_read(_site, sha256):
    return sha256 == SHA


@pytest.fixture(autouse=True)
def door(settings):
    settings.ROOT_URLCONF = "platform_web.agent_urls"
    settings.MIDDLEWARE = settings.AGENT_MIDDLEWARE
    settings.HEARTBEAT_PROVIDERS = {}
    settings.ARTIFACT_POLICY = f"{__name__}.may_read"


@pytest.fixture
def short(settings):
    settings.CONSILIUM_CERTIFICATE_LIFETIME = timedelta(seconds=30)


@pytest.fixture
def due(enrolment):
    """The site's certificate has less than a third of its life left."""
    certificate = Certificate.objects.get()
    made = timezone.now() - timedelta(days=70)
    held = _antedated(certificate.pem, made)
    Certificate.objects.update(pem=held)
    return enrolment


def _antedated(pem, made):
    """The certificate with other dates; the portal reads them from its own copy only."""
    root_key, root = authority.open_root(authority.the_federation())
    known = x509.load_pem_x509_certificate(pem.encode())
    fresh = (
        x509.CertificateBuilder()
        .subject_name(known.subject)
        .issuer_name(root.subject)
        .public_key(known.public_key())
        .serial_number(known.serial_number)
        .not_valid_before(made - CLOCK_SKEW)
        .not_valid_after(made + timedelta(days=90))
        .sign(root_key, SHA256())
    )
    return fresh.public_bytes(Encoding.PEM).decode()


def counting(certificate_or_serial):
    allow_list.write()
    serial = getattr(certificate_or_serial, "serial", certificate_or_serial)
    return AllowList(places.server_kit()).allows("site-a", serial)


def acts():
    return list(AuditEvent.objects.order_by("number").values_list("act", flat=True))


def test_a_certificate_in_its_first_two_thirds_is_given_again_and_nothing_is_issued(enrolment, site_key):
    before = acts()
    answer, _ = signed(site_key, enrolment, "POST", "renew")
    assert answer.status_code == 201
    assert answer.json()["serial"] == enrolment.serial
    assert (acts(), Certificate.objects.count()) == (before, 1)


def test_the_old_certificate_counts_until_the_new_one_is_used_and_no_longer(due, site_key):
    answer, _ = signed(site_key, due, "POST", "renew")
    new = Certificate.objects.get(serial=answer.json()["serial"])
    assert new.serial != due.serial
    assert counting(due.serial)
    assert counting(new)
    again, _ = signed(site_key, due, "POST", "renew")
    assert again.json()["serial"] == new.serial  # the first answer was lost on the wire
    assert signed(site_key, due, "POST", "heartbeat", BEAT)[0].status_code == 200
    assert counting(due.serial)
    assert signed(site_key, new, "POST", "heartbeat", BEAT)[0].status_code == 200
    assert not counting(due.serial)
    assert AllowList(places.server_kit()).was_replaced("site-a", due.serial)
    assert counting(new)
    assert is_problem(signed(site_key, due, "POST", "heartbeat", BEAT)[0], 401, "replaced")
    assert acts()[-2:] == ["certificate.renewed", "certificate.replaced"]


def test_the_renewed_certificate_is_for_the_same_key_and_lasts_as_set(due, site_key, short):
    answer, _ = signed(site_key, due, "POST", "renew")
    renewed = x509.load_pem_x509_certificate(answer.json()["certificate_pem"].encode())
    assert renewed.public_key() == site_key.public_key()
    left = renewed.not_valid_after_utc - timezone.now()
    assert timedelta(seconds=27) < left <= timedelta(seconds=30)
    assert renew_from(renewed) - timezone.now() < timedelta(seconds=20)


def test_an_expired_certificate_cannot_renew_itself(enrolment, site_key):
    Certificate.objects.update(not_after=timezone.now())
    assert is_problem(signed(site_key, enrolment, "POST", "renew")[0], 401, "expired")
    assert not counting(enrolment.serial)
    assert "EXPIRED" in Site.objects.get().missing(timezone.now())


def test_a_site_that_leaves_is_revoked_by_its_own_signature(enrolment, site_key):
    answer, _ = signed(site_key, enrolment, "POST", "leave")
    assert answer.json() == {"left": True}
    assert Site.objects.get().status == Site.Status.LEFT
    assert not counting(enrolment.serial)
    assert acts()[-1] == "site.left"
    assert is_problem(signed(site_key, enrolment, "POST", "leave")[0], 401, "left")


def test_a_revoked_site_hears_so_and_reads_no_result(enrolment, site_key, ann, person):
    places.artifact(SHA).parent.mkdir(parents=True)
    places.artifact(SHA).write_bytes(b"weights")
    answer = signed(site_key, enrolment, "GET", f"artifacts/sha256/{SHA}")[0]
    assert b"".join(answer.streaming_content) == b"weights"
    asked = services.request_revocation(actor=ann, site=Site.objects.get(), reason="a laptop was lost")
    services.confirm_revocation(actor=person("bea", Role.ADMINISTRATOR), revocation=asked)
    for method, path in (("GET", f"artifacts/sha256/{SHA}"), ("POST", "heartbeat"), ("POST", "renew")):
        assert is_problem(signed(site_key, enrolment, method, path)[0], 401, "revoked")
    assert not counting(enrolment.serial)


def test_a_new_kit_is_the_way_back_and_takes_the_old_certificate_with_it(enrolment, site_key, ann, person):
    site = Site.objects.get()
    asked = services.request_revocation(actor=ann, site=site, reason="a laptop was lost")
    services.confirm_revocation(actor=person("bea", Role.ADMINISTRATOR), revocation=asked)
    again = services.issue_kit(actor=ann, site=site)
    with pytest.raises(CertificateRequestError, match="revoked"):  # whoever copied it still has it
        enrolled_by(again, site_key)
    another = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    back = enrolled_by(again, another)
    assert Site.objects.get().status == Site.Status.ENROLLED
    assert counting(back.serial)
    assert not counting(enrolment.serial)


def test_a_second_kit_replaces_the_certificate_of_the_first(enrolment, site_key, ann):
    newer = enrolled_by(services.issue_kit(actor=ann, site=Site.objects.get()), site_key)
    assert counting(newer.serial)
    assert not counting(enrolment.serial)
    assert is_problem(signed(site_key, enrolment, "POST", "heartbeat", BEAT)[0], 401, "replaced")


def test_a_request_to_renew_needs_the_sites_own_key(enrolment):
    thief = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert is_problem(signed(thief, enrolment, "POST", "renew")[0], 401, "signature")
    assert Certificate.objects.count() == 1
