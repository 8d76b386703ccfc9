"""What a site's agent sends to its door: requests for certificates, and signed requests."""

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from django.test import Client

from site_kits.signing import sign_request


def csr(key, name="site-a"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def signed(key, enrolment, method, path, body=b"", site="site-a"):
    path = f"/agent/v1/{path}"
    headers = sign_request(key, site=site, serial=enrolment.serial, method=method, path=path, body=body)
    return Client().generic(method, path, body, content_type="application/json", headers=headers), headers


def is_problem(response, status, code):
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["detail"]
    assert "Traceback" not in response.content.decode()
    return True
