"""Whose keys a site believes: every certificate and every advert that is not exactly right is refused."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from secure_agg.errors import SecureAggregationError
from secure_agg.identity import Identity, Trust, fingerprint, is_pinned, verify_advert
from secure_agg.messages import ECDSA_P256, ED25519, RSA_PSS_SHA256, Advert
from site_kits.provisioning import ca
from tests.e2e.allowed import make_request
from tests.secure_agg.cohort import NOW, Root, identity_of, make_key, name_of, subject_of, the_root

NAME = name_of(0)
UNSIGNED = Advert("job", 1, NAME, (), bytes(32), bytes(32), NOW + 60, 0)


def check(advert, trust=None, *, job_id="job", epoch=1, now=NOW):
    verify_advert(advert, trust or Trust(the_root().der), job_id=job_id, epoch=epoch, now=now)


def refused(advert, trust=None, **about):
    with pytest.raises(SecureAggregationError) as error:
        check(advert, trust, **about)
    assert error.value.facts["site"] == advert.name
    return error.value


def signed_by(key, chain, name=NAME):
    return Identity(name, key, chain).sign_advert(replace(UNSIGNED, name=name))


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("rsa", RSA_PSS_SHA256), ("p256", ECDSA_P256), ("ed25519", ED25519)]
)
def test_each_kind_of_key_signs_and_is_believed(kind, algorithm):
    advert = identity_of(NAME, kind).sign_advert(UNSIGNED)
    assert advert.sigalg == algorithm
    assert Advert.decode(advert.encode()) == advert
    check(advert)


@pytest.mark.parametrize("kind", ["rsa", "p256", "ed25519"])
@pytest.mark.parametrize(
    "change",
    [
        {"x25519_pk": b"\1" * 32},
        {"ed25519_pk": b"\1" * 32},
        {"expiry": NOW + 61},
        {"sig": bytes(64)},
        {"sig": b""},
        {"sigalg": RSA_PSS_SHA256},
        {"sigalg": ECDSA_P256},
        {"sigalg": ED25519},
    ],
)
def test_an_advert_altered_by_one_field_is_refused(kind, change):
    advert = identity_of(NAME, kind).sign_advert(UNSIGNED)
    if advert != replace(advert, **change):
        assert refused(replace(advert, **change)).code == "E_KEY_AUTH"


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({}, {"job_id": "other"}),
        ({}, {"epoch": 2}),
        ({"expiry": NOW - 1}, {}),
    ],
)
def test_an_advert_of_another_job_or_epoch_or_time_is_stale(change, about):
    advert = identity_of(NAME).sign_advert(replace(UNSIGNED, **change))
    assert refused(advert, **about).code == "E_STALE_ADVERT"


def test_the_certificates_of_our_own_authority_are_those_of_sites_only():
    key, root = ca.create_ca("Federation")
    now = int(root.not_valid_before_utc.timestamp()) + 3600
    trust = Trust(root.public_bytes(Encoding.DER))
    key_pem, request = make_request(NAME)
    site = ca.sign_site_csr(key, root, request, site=NAME, organisation="hospital")
    admin_key, admin = ca.issue_service_identity(key, root, NAME, "project_admin", "org", 30)
    server_key, server = ca.issue_server_certificate(key, root, NAME, ["localhost"])
    unsigned = replace(UNSIGNED, expiry=now + 60)
    adverts = [
        Identity(NAME, load_pem_private_key(of, None), (der_of(pem),)).sign_advert(unsigned)
        for of, pem in ((key_pem, site), (admin_key, admin), (server_key, server))
    ]
    check(adverts[0], trust, now=now)
    assert "administrator" in refused(adverts[1], trust, now=now).facts["reason"]
    assert "not a client's" in refused(adverts[2], trust, now=now).facts["reason"]


def der_of(pem):
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def usage(*, signs):
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name == "digital_signature" and signs for name in names})


CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SEVERAL = x509.ExtendedKeyUsage([*CLIENT, ExtendedKeyUsageOID.CODE_SIGNING])
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"extensions": [(x509.BasicConstraints(True, None), True)]}, "an authority's"),
        ({"extensions": [(usage(signs=False), True)]}, "may not sign"),
        ({"extensions": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]}, "not a client"),
        ({"extensions": [(SEVERAL, False)]}, "not a client"),
        ({"extensions": [(UNKNOWN, True)]}, "critical extension"),
        ({"subject": subject_of(NAME, role="lead")}, "administrator's"),
        ({"subject": subject_of("site-99")}, "another name"),
        ({"start": -30, "days": 29}, "expired"),
        ({"start": 1}, "not valid yet"),
    ],
)  # fmt: skip
def test_a_certificate_under_the_root_that_is_not_this_sites_is_refused(what, reason):
    key = make_key()
    error = refused(signed_by(key, (the_root().leaf(key, NAME, **what),)))
    assert error.code == "E_KEY_AUTH"
    assert reason in error.facts["reason"]


def test_extensions_that_are_harmless_are_accepted():
    key = make_key()
    extensions = [(usage(signs=True), True), (CLIENT, True), (UNKNOWN, False)]
    check(signed_by(key, (the_root().leaf(key, NAME, extensions=extensions),)))
    check(signed_by(key, (the_root().leaf(key, NAME, extensions=[]),)))


def test_a_certificate_of_another_root_is_refused():
    key, rogue = make_key(), Root()  # of the same name as ours
    error = refused(signed_by(key, (rogue.leaf(key, NAME),)))
    assert "root did not sign" in error.facts["reason"]


@pytest.mark.parametrize("chain", [(b"no certificate",), (b"",)])
def test_what_is_no_certificate_is_refused(chain):
    assert refused(replace(identity_of(NAME).sign_advert(UNSIGNED), chain=chain)).code == "E_KEY_AUTH"


def test_the_chain_is_the_sites_certificate_alone():
    identity = identity_of(NAME)
    for chain in ((*identity.chain_der, the_root().der), ()):
        error = refused(replace(UNSIGNED, chain=chain, sigalg=ED25519))
        assert "not exactly" in error.facts["reason"]


def test_an_expired_root_vouches_for_nobody():
    error = refused(
        replace(identity_of(NAME).sign_advert(UNSIGNED), expiry=2**40), now=NOW + 4000 * 24 * 3600
    )
    assert "expired" in error.facts["reason"]


def test_a_denied_serial_is_refused():
    certificate = x509.load_der_x509_certificate(identity_of(NAME).chain_der[0])
    trust = Trust(the_root().der, denied_serials=frozenset({certificate.serial_number}))
    assert "revoked" in refused(identity_of(NAME).sign_advert(UNSIGNED), trust).facts["reason"]


@pytest.mark.parametrize("name", ["server", "FLSA-1x", "a b", "", "x" * 64])
def test_names_that_no_site_has_are_refused(name):
    assert "its name" in refused(replace(UNSIGNED, name=name)).facts["reason"]


def test_keys_that_are_too_weak_or_of_another_kind_are_refused():
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    other_curve = ec.generate_private_key(ec.SECP384R1())
    for key in (small, other_curve):
        chain = (the_root().leaf(key, NAME),)
        error = refused(signed_by(key, chain))
        assert (error.code, error.facts["reason"]) == ("E_KEY_AUTH", "the signature over its keys is wrong")
    foreign = signed_by(make_key(), identity_of(NAME).chain_der)
    assert refused(foreign).code == "E_KEY_AUTH"


def test_a_signature_that_nvflare_was_asked_for_is_never_an_advert():
    """NVFlare's server chooses a nonce that the same key signs: a bare body or digest must not count."""
    identity = identity_of(NAME)
    body = replace(UNSIGNED, chain=identity.chain_der, sigalg=ED25519).signed_body()
    assert body.startswith(b"FLSA-1/advert\0")
    for nonce in (body[len(b"FLSA-1/advert\0") :], body):
        signature = identity.private_key.sign(NAME.encode() + nonce)
        advert = replace(UNSIGNED, chain=identity.chain_der, sigalg=ED25519, sig=signature)
        assert refused(advert).code == "E_KEY_AUTH"


def test_pins_are_of_the_key_and_survive_a_renewal():
    identity = identity_of(NAME)
    renewed = the_root().leaf(identity.private_key, NAME)
    pin = fingerprint(identity.chain_der[0])
    assert is_pinned(NAME, renewed, {NAME: pin.upper()})
    assert not is_pinned(NAME, renewed, {NAME: fingerprint(identity_of(name_of(1)).chain_der[0])})
    assert not is_pinned(NAME, renewed, {name_of(1): pin})
    assert not is_pinned(NAME, renewed, {NAME: pin[:-1]})


def test_the_key_does_not_stand_in_the_repr():
    assert "PrivateKey" not in repr(identity_of(NAME))
