"""Link and PIN: what they give, once, to whom, and how few attempts there are."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.db import connection
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation import selectors, services
from platform_web.federation.errors import (
    EnrolmentTokenError,
    KitLinkExpiredError,
    KitLinkUnknownError,
    KitLinkUsedError,
    KitLockedError,
    KitNotReadyError,
    PinWrongError,
)
from platform_web.federation.models import Certificate, Kit, Site
from platform_web.federation.secrets import is_pin, new_pin
from site_kits.errors import CertificateRequestError, ForeignNameError
from site_kits.provisioning.ca import public_key_sha256


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def csr(key, name="site-a"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


@pytest.fixture
def built(invite):
    """An invitation whose kit is built."""
    invitation = invite()
    services.record_kit_built(kit=invitation.kit, zip_sha256="0" * 64)
    return invitation


@pytest.fixture
def enrol(built, key):
    """Enrol with the invitation, or with what is different."""

    def enrol(**changes):
        asked = {"name": "site-a", "token": built.token, "pin": built.pin, "csr_pem": csr(key)}
        return services.enrol_site(**(asked | changes))

    return enrol


def entries(*acts):
    return [act for act in AuditEvent.objects.order_by("number").values_list("act", flat=True) if act in acts]


def wrong(pin):
    return f"{(int(pin) + 1) % 10**8:08d}"


def test_neither_link_nor_pin_is_stored_or_audited(built):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM federation_kit")
        row = repr(cursor.fetchall())
    leaves = b"".join(bytes(event.leaf) for event in AuditEvent.objects.all())
    for secret in (built.token, built.pin):
        assert secret not in row
        assert secret.encode() not in leaves


def test_the_hash_of_a_pin_is_of_no_use_without_the_master_key(built, settings):
    stored = Kit.objects.get().pin_hash
    assert is_pin(f"{built.pin[:4]} {built.pin[4:]}", stored)
    settings.CONSILIUM_MASTER_KEY = bytes(32)
    assert not is_pin(built.pin, stored)


def test_pins_are_eight_digits_and_differ():
    pins = {new_pin() for _ in range(200)}
    assert len(pins) > 190
    assert all(re.fullmatch(r"[0-9]{8}", pin) for pin in pins)


def test_a_kit_is_handed_out_for_the_pin_as_often_as_needed(built):
    assert services.hand_out_kit(token=built.token, pin=built.pin) == built.kit
    assert services.hand_out_kit(token=built.token, pin=built.pin) == built.kit
    assert entries("kit.fetched") == ["kit.fetched"] * 2


def test_the_fifth_wrong_pin_locks_the_link_at_both_doors(built, enrol):
    for _twice in range(2):
        with pytest.raises(PinWrongError, match=r"attempts? (is|are) left"):
            enrol(pin=wrong(built.pin))
        with pytest.raises(PinWrongError, match=r"attempts? (is|are) left"):
            services.hand_out_kit(token=built.token, pin=wrong(built.pin))
        services.hand_out_kit(token=built.token, pin=built.pin)  # a right one gives no attempt back
    with pytest.raises(KitLockedError, match="five wrong PINs"):
        enrol(pin=wrong(built.pin))
    with pytest.raises(KitLockedError):
        enrol()
    with pytest.raises(KitLockedError):
        services.hand_out_kit(token=built.token, pin=built.pin)
    assert entries("kit.pin_failed", "kit.locked") == ["kit.pin_failed"] * 4 + ["kit.locked"]
    assert not Certificate.objects.exists()


@pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite writes one after the other; in memory it refuses threads"
)
@pytest.mark.django_db(transaction=True)
def test_many_guesses_at_the_same_time_get_five_attempts(built):
    def guess(number):
        try:
            services.check_pin(kit=built.kit, pin=f"{number:08d}")
        except (PinWrongError, KitLockedError) as error:
            return type(error)
        finally:
            connection.close()

    numbers = [number for number in range(13) if f"{number:08d}" != built.pin][:12]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(guess, numbers))
    assert answers.count(PinWrongError) == 4
    assert Kit.objects.get().pin_failures == 5


def test_a_link_expires(built):
    Kit.objects.update(link_expires=timezone.now())
    with pytest.raises(KitLinkExpiredError, match="72 hours"):
        services.hand_out_kit(token=built.token, pin=built.pin)


def test_an_unknown_link_is_no_kit(portal):
    with pytest.raises(KitLinkUnknownError):
        selectors.open_kit("x" * 43)


def test_a_kit_that_is_not_built_waits(invite):
    invitation = invite()
    with pytest.raises(KitNotReadyError):
        services.hand_out_kit(token=invitation.token, pin=invitation.pin)


def test_a_newer_invitation_replaces_the_older_link_and_pin(built, ann, enrol):
    newer = services.issue_kit(actor=ann, site=built.site)
    assert newer.token != built.token
    with pytest.raises(KitLinkExpiredError, match="newer"):
        selectors.open_kit(built.token)
    with pytest.raises(EnrolmentTokenError):
        enrol()
    with pytest.raises(PinWrongError):
        enrol(token=newer.token, pin=wrong(newer.pin))
    assert enrol(token=newer.token, pin=newer.pin)


def test_enrolment_gives_a_certificate_for_the_sites_own_key_once(built, key, enrol):
    enrolment = enrol()
    certificate = x509.load_pem_x509_certificate(enrolment.certificate_pem.encode())
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "site-a"
    assert timedelta(0) < enrolment.not_after - timezone.now() <= timedelta(days=90)
    assert re.fullmatch(r"[0-9a-f]+", enrolment.serial)
    assert Site.objects.get().status == Site.Status.ENROLLED
    with pytest.raises(KitLinkUsedError):
        selectors.open_kit(built.token)
    enrol()
    assert Certificate.objects.count() == 1
    assert entries("certificate.issued") == ["certificate.issued"]


def test_unknown_replaced_and_late_links_get_the_same_answer(enrol):
    said = set()

    def refused(**changes):
        with pytest.raises(EnrolmentTokenError) as raised:
            enrol(**changes)
        said.add(str(raised.value))

    refused(token="x" * 43)
    refused(token="é" * 43)
    Kit.objects.update(link_expires=timezone.now())
    refused()
    Kit.objects.update(link_expires=timezone.now() + timedelta(hours=1), revoked_at=timezone.now())
    refused()
    assert len(said) == 1
    assert not Certificate.objects.exists()


def test_a_bad_request_does_not_use_up_the_link(key, enrol):
    elliptic = ec.generate_private_key(ec.SECP256R1())
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    for bad in (csr(key, "site-b"), csr(elliptic), csr(weak), "rubbish", "é"):
        with pytest.raises(CertificateRequestError):
            enrol(csr_pem=bad)
    with pytest.raises(ForeignNameError, match="another site than site-b"):
        enrol(name="site-b", csr_pem=csr(key, "site-b"))
    assert enrol()


def test_a_lost_answer_is_given_again_to_the_same_key_only(built, enrol):
    first, again = enrol(), enrol()
    assert (again.serial, again.certificate_pem) == (first.serial, first.certificate_pem)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(EnrolmentTokenError, match="used already"):
        enrol(csr_pem=csr(other))
    with pytest.raises(PinWrongError):
        enrol(pin=wrong(built.pin))


def test_the_answer_names_the_keys_of_the_other_enrolled_sites(enrol, invite):
    first = enrol()
    assert first.peers == {}
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    second = invite("site-b")
    asked = {
        "name": "site-b",
        "token": second.token,
        "pin": second.pin,
        "csr_pem": csr(other, "site-b"),
    }
    assert enrol(**asked).peers == {"site-a": public_key_sha256(first.certificate_pem.encode())}
    Certificate.objects.filter(site__name="site-a").update(revoked_at=timezone.now())
    assert enrol(**asked).peers == {}
