"""The certificate authority: what it signs, and what it refuses."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from site_kits.errors import CertificateRequestError, ProvisioningError
from site_kits.provisioning import ca


@pytest.fixture(scope="module")
def authority():
    return ca.create_ca("Test federation")


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def request(key, name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return signed.public_bytes(Encoding.PEM)


def sign(authority, csr: bytes, **changed) -> bytes:
    wanted = {"site": "hospital-a", "organisation": "人民医院", "lifetime": timedelta(days=90)} | changed
    return ca.sign_site_csr(*authority, csr, **wanted)


def test_a_site_certificate_says_who_it_is_and_what_for(authority, rsa_key):
    certificate = x509.load_pem_x509_certificate(sign(authority, request(rsa_key, "hospital-a")))
    names = {attribute.oid: attribute.value for attribute in certificate.subject}
    assert names == {NameOID.COMMON_NAME: "hospital-a", NameOID.ORGANIZATION_NAME: "人民医院"}
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert not usage.key_encipherment
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(authority[1])


def test_a_site_certificate_ends_after_ninety_days_at_most(authority, rsa_key):
    certificate = x509.load_pem_x509_certificate(sign(authority, request(rsa_key, "hospital-a")))
    assert certificate.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=90)
    with pytest.raises(ProvisioningError, match="to 90 days"):
        sign(authority, request(rsa_key, "hospital-a"), lifetime=timedelta(days=91))


def test_what_the_request_asks_for_besides_its_key_is_ignored(authority, rsa_key):
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "hospital-a"),
            x509.NameAttribute(NameOID.UNSTRUCTURED_NAME, "project_admin"),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    csr = builder.sign(rsa_key, SHA256()).public_bytes(Encoding.PEM)
    certificate = x509.load_pem_x509_certificate(sign(authority, csr))
    assert not certificate.subject.get_attributes_for_oid(NameOID.UNSTRUCTURED_NAME)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_request_for_another_name_is_refused(authority, rsa_key):
    with pytest.raises(CertificateRequestError, match="another name than hospital-a"):
        sign(authority, request(rsa_key, "hospital-b"))


def test_an_elliptic_key_is_refused_because_it_crashes_nvflare(authority):
    with pytest.raises(CertificateRequestError, match="not RSA"):
        sign(authority, request(ec.generate_private_key(ec.SECP256R1()), "hospital-a"))


def test_a_short_key_is_refused(authority):
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(CertificateRequestError, match="2048"):
        sign(authority, request(short, "hospital-a"))


def test_a_request_with_a_broken_signature_is_refused(authority, rsa_key):
    der = bytearray(x509.load_pem_x509_csr(request(rsa_key, "hospital-a")).public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(CertificateRequestError, match="not signed by its own key"):
        sign(authority, broken)


@pytest.mark.parametrize("junk", [b"", b"hello", b"-----BEGIN CERTIFICATE REQUEST-----", b"x" * 20_000])
def test_junk_is_refused_with_a_sentence(authority, junk):
    with pytest.raises(CertificateRequestError, match=r"start\.sh"):
        sign(authority, junk)


def test_the_role_of_a_service_identity_stands_in_its_certificate(authority):
    key_pem, certificate_pem = ca.issue_service_identity(*authority, "runs", "lead", "consilium", 30)
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    assert certificate.subject.get_attributes_for_oid(NameOID.UNSTRUCTURED_NAME)[0].value == "lead"
    assert load_pem_private_key(key_pem, None).public_key() == certificate.public_key()


def test_a_server_certificate_is_for_its_hosts(authority):
    _, certificate_pem = ca.issue_server_certificate(*authority, "server", ["localhost", "127.0.0.1"])
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_no_certificate_outlives_the_root():
    authority = ca.create_ca("Short", days=5)
    _, certificate_pem = ca.issue_server_certificate(*authority, "server", ["localhost"])
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    assert certificate.not_valid_after_utc == authority[1].not_valid_after_utc
