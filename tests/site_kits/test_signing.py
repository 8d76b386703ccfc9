from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from site_kits.errors import SignatureError
from site_kits.signing import HEADERS, serial_hex, sign_request, verify_request

BODY = b'{"a":1}'


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def certificate(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site-a")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(0xABCDEF).not_valid_before(now - timedelta(days=1))
    return builder.not_valid_after(now + timedelta(days=1)).sign(key, SHA256())


@pytest.fixture
def signed(key, certificate):
    return sign_request(
        key, site="site-a", serial=serial_hex(certificate), method="POST", path="/agent/v1/x?y=1", body=BODY
    )


def verify(certificate, headers, **changes):
    values = {"method": "POST", "path": "/agent/v1/x?y=1", "body": BODY} | changes
    values.setdefault(
        "now", float(headers["X-Consilium-Time"]) if headers["X-Consilium-Time"].isdigit() else 0.0
    )
    return verify_request(certificate, headers, **values)


def test_a_genuine_request_verifies_whatever_the_case_of_its_headers(certificate, signed):
    assert verify(certificate, signed).site == "site-a"
    lower = {name.lower(): value for name, value in signed.items()}
    assert verify_request(
        certificate,
        lower,
        method="post",
        path="/agent/v1/x?y=1",
        body=BODY,
        now=float(signed["X-Consilium-Time"]),
    )


@pytest.mark.parametrize(
    "change", [{"method": "GET"}, {"path": "/agent/v1/x?y=2"}, {"path": "/agent/v1/x"}, {"body": b""}]
)
def test_another_request_does_not_verify(certificate, signed, change):
    with pytest.raises(SignatureError):
        verify(certificate, signed, **change)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("value", ["", "x", "\u0661" * 32, "1", "a" * 32, "é"])
def test_a_changed_header_does_not_verify(certificate, signed, name, value):
    with pytest.raises(SignatureError):
        verify(certificate, {**signed, name: value}, now=float(signed["X-Consilium-Time"]))


@pytest.mark.parametrize("seconds", [-121, 121])
def test_an_old_or_future_request_is_refused_and_says_that_the_clock_is_wrong(certificate, signed, seconds):
    with pytest.raises(SignatureError, match="clock"):
        verify(certificate, signed, now=float(signed["X-Consilium-Time"]) + seconds)


def test_a_certificate_that_has_ended_is_refused(certificate, key):
    headers = sign_request(key, site="site-a", serial="abcdef", method="GET", path="/", body=b"")
    later = float(headers["X-Consilium-Time"]) + 200_000
    headers["X-Consilium-Time"] = str(int(later))
    with pytest.raises(SignatureError, match="not valid now"):
        verify_request(certificate, headers, method="GET", path="/", body=b"", now=later)
