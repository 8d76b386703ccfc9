import re
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation import selectors, services
from platform_web.federation.errors import (
    EnrolmentTokenError,
    FederationError,
    KitLinkExpiredError,
    KitLinkUnknownError,
    KitLinkUsedError,
    KitNotReadyError,
    SiteNameError,
)
from platform_web.federation.heartbeat import Heartbeat
from platform_web.federation.models import Certificate, Dataset, Kit, Site
from platform_web.outbox.models import Task
from site_kits.errors import CertificateRequestError

TOKEN = "t" * 43
CARD = {
    "name": "cytology",
    "kind": "tabular",
    "digest": "a" * 64,
    "labels": ["b", "m"],
    "rows": 10,
    "parts": {"train": 6, "validation": 2, "test": 2},
    "label_counts": {"b": 6, "m": 4},
}


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def csr(key, name="site-a"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


@pytest.fixture
def built(invite):
    """An invitation whose kit is built; the enrolment token is TOKEN."""
    invitation = invite()
    services.record_kit_built(kit=invitation.kit, enrolment_token=TOKEN, zip_sha256="0" * 64)
    return invitation


def entries():
    return list(AuditEvent.objects.order_by("number").values_list("act", flat=True))


def test_inviting_a_site_is_one_entry_and_one_promise(invite):
    before = len(entries())
    invitation = invite()
    assert entries()[before:] == ["site.invited"]
    assert Task.objects.get().arguments == {"kit_id": str(invitation.kit.pk)}
    assert not Kit.objects.filter(link_sha256=invitation.token).exists()


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "-a", "a-", "a" * 64, "a\n", "é", "../x", "server", "ops", "localhost"]
)
def test_a_malformed_or_reserved_name_is_refused_and_nothing_changes(invite, name):
    with pytest.raises(SiteNameError):
        invite(name)
    assert not Site.objects.exists()
    assert not Task.objects.exists()


def test_a_taken_name_is_refused(invite):
    invite()
    with pytest.raises(SiteNameError, match="already"):
        invite()
    assert Site.objects.count() == 1


@pytest.mark.parametrize("field", ["title", "organisation"])
@pytest.mark.parametrize("value", ["", "  ", "x" * 300, "a\x00b"])
def test_other_fields_are_one_line(portal, ann, field, value):
    values = {"name": "site-a", "title": "A", "organisation": "City"} | {field: value}
    with pytest.raises(FederationError):
        services.invite_site(actor=ann, **values)


def test_a_kit_is_handed_out_once(built):
    assert services.hand_out_kit(token=built.token) == built.kit
    with pytest.raises(KitLinkUsedError, match="once"):
        services.hand_out_kit(token=built.token)


def test_of_two_clicks_at_the_same_time_one_wins(built, monkeypatch):
    stale = selectors.open_kit(built.token)
    services.hand_out_kit(token=built.token)
    monkeypatch.setattr(selectors, "open_kit", lambda token: stale)
    with pytest.raises(KitLinkUsedError):
        services.hand_out_kit(token=built.token)
    assert entries().count("kit.fetched") == 1


def test_a_link_expires(built):
    Kit.objects.update(link_expires=timezone.now())
    with pytest.raises(KitLinkExpiredError, match="72 hours"):
        services.hand_out_kit(token=built.token)


def test_an_unknown_link_is_no_kit(portal):
    with pytest.raises(KitLinkUnknownError):
        selectors.open_kit("x" * 43)


def test_a_kit_that_is_not_built_waits(invite):
    with pytest.raises(KitNotReadyError):
        services.hand_out_kit(token=invite().token)


def test_a_newer_kit_replaces_the_older_ones_link_and_token(built, ann, key):
    services.issue_kit(actor=ann, site=built.site)
    with pytest.raises(KitLinkExpiredError, match="newer"):
        selectors.open_kit(built.token)
    with pytest.raises(EnrolmentTokenError):
        services.enrol_site(name="site-a", token=TOKEN, csr_pem=csr(key))


def test_enrolment_gives_a_certificate_for_the_sites_own_key_once(built, key):
    enrolment = services.enrol_site(name="site-a", token=TOKEN, csr_pem=csr(key))
    certificate = x509.load_pem_x509_certificate(enrolment.certificate_pem.encode())
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "site-a"
    assert enrolment.not_after - timezone.now() <= timedelta(days=90)
    assert re.fullmatch(r"[0-9a-f]+", enrolment.serial)
    assert Site.objects.get().status == Site.Status.ENROLLED
    services.enrol_site(name="site-a", token=TOKEN, csr_pem=csr(key))
    assert Certificate.objects.count() == 1
    assert entries().count("certificate.issued") == 1


@pytest.mark.parametrize(("name", "token"), [("site-a", "x" * 43), ("site-b", TOKEN), ("site-a", "é" * 43)])
def test_a_wrong_token_gives_nothing(built, key, name, token):
    with pytest.raises(EnrolmentTokenError):
        services.enrol_site(name=name, token=token, csr_pem=csr(key, name))
    assert not Certificate.objects.exists()


def test_an_expired_token_gives_nothing(built, key):
    Kit.objects.update(enrolment_expires=timezone.now())
    with pytest.raises(EnrolmentTokenError):
        services.enrol_site(name="site-a", token=TOKEN, csr_pem=csr(key))


def test_a_bad_request_does_not_use_up_the_token(built, key):
    elliptic = ec.generate_private_key(ec.SECP256R1())
    for bad in (csr(key, "site-b"), csr(elliptic), "rubbish", "é"):
        with pytest.raises(CertificateRequestError):
            services.enrol_site(name="site-a", token=TOKEN, csr_pem=bad)
    assert services.enrol_site(name="site-a", token=TOKEN, csr_pem=csr(key))


def test_a_lost_answer_is_given_again_to_the_same_key_only(built, key):
    first = services.enrol_site(name="site-a", token=TOKEN, csr_pem=csr(key))
    again = services.enrol_site(name="site-a", token=TOKEN, csr_pem=csr(key))
    assert (again.serial, again.certificate_pem) == (first.serial, first.certificate_pem)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(EnrolmentTokenError):
        services.enrol_site(name="site-a", token=TOKEN, csr_pem=csr(other))


def test_a_nonce_works_once_per_site(make_site):
    now = timezone.now()
    a, b = make_site("site-a"), make_site("site-b")
    assert [services.use_nonce(site=site, nonce="0" * 32, now=now) for site in (a, a, b)] == [
        True,
        False,
        True,
    ]


def test_old_nonces_are_forgotten(make_site):
    site, now = make_site(), timezone.now()
    services.use_nonce(site=site, nonce="0" * 32, now=now - timedelta(hours=1))
    services.use_nonce(site=site, nonce="1" * 32, now=now)
    services.prune_nonces(now=now)
    assert not services.use_nonce(site=site, nonce="1" * 32, now=now)
    assert services.use_nonce(site=site, nonce="0" * 32, now=now)


def beat(site, **changes):
    report = Heartbeat.model_validate({"agent_version": "0.1.0", "datasets": [CARD | changes]})
    services.record_heartbeat(site=site, heartbeat=report, now=timezone.now())


def test_a_heartbeat_keeps_the_cards_and_is_audited_only_when_one_changed(make_site):
    site = make_site()
    beat(site)
    beat(site)
    assert Dataset.objects.get().label_counts == {"b": 6, "m": 4}
    assert entries().count("dataset.reported") == 1
    beat(site, digest="b" * 64, rows=12)
    assert Dataset.objects.get().rows == 12
    assert entries().count("dataset.reported") == 2


def test_a_card_that_no_longer_arrives_is_forgotten_and_that_is_audited_once(make_site):
    site = make_site()
    beat(site, label_counts={"b": None, "m": None})  # counts that stay at the site
    assert Dataset.objects.get().label_counts == {"b": None, "m": None}
    for _time in range(2):
        nothing = Heartbeat.model_validate({"agent_version": "0.1.0", "datasets": []})
        services.record_heartbeat(site=site, heartbeat=nothing, now=timezone.now())
    assert not Dataset.objects.exists()
    assert entries().count("dataset.withdrawn") == 1


def test_green_needs_nvflare_and_a_heartbeat_and_missing_says_which(make_site):
    site, now = make_site(), timezone.now()
    assert "No heartbeat" in site.missing(now)
    site.heartbeat_at = now - timedelta(seconds=29)
    assert "NVFlare" in site.missing(now)
    site.flare_seen_at = now - timedelta(seconds=14)
    assert site.is_online(now)
    assert site.missing(now) == ""
    site.heartbeat_at = now - timedelta(seconds=31)
    assert not site.is_online(now)
    assert "agent" in site.missing(now)


def test_a_site_that_nvflare_lists_is_seen(make_site):
    site = make_site()
    services.record_flare_seen(names={"site-a", "unknown"}, now=timezone.now())
    site.refresh_from_db()
    assert site.is_seen_by_flare(timezone.now())


def test_a_suspended_site_is_not_green_gets_no_kit_and_can_come_back(make_site, ann, portal):
    site = make_site()
    services.suspend_site(actor=ann, site=site)
    with pytest.raises(FederationError, match="already"):
        services.suspend_site(actor=ann, site=site)
    with pytest.raises(FederationError, match="suspended"):
        services.issue_kit(actor=ann, site=site)
    services.resume_site(actor=ann, site=site)
    assert Site.objects.get().status == Site.Status.INVITED
