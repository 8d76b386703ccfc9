"""Certificates in a federation without a portal: requests for them, and the server's allow-list."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fl_jobs.packaging.allow_list import ALLOW_LIST, encode_allow_list
from fl_jobs.tensor_files import write_bytes


class Allowed:
    """Which certificates count, written to the server's folder at every change."""

    def __init__(self, server_folder: Path) -> None:
        self._path = server_folder / ALLOW_LIST
        self._names: dict[str, dict[str, float]] = {}

    def add(self, name: str, certificate_pem: bytes) -> None:
        """One more certificate of ``name``."""
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        until = certificate.not_valid_after_utc.timestamp()
        self._names.setdefault(name, {})[f"{certificate.serial_number:x}"] = until
        self._write()

    def only(self, name: str, certificate_pem: bytes) -> None:
        """This certificate of ``name`` and none of its others."""
        self._names.pop(name, None)
        self.add(name, certificate_pem)

    def revoke(self, name: str) -> None:
        """No certificate of ``name`` any more."""
        self._names.pop(name, None)
        self._write()

    def _write(self) -> None:
        write_bytes(self._path, encode_allow_list(self._names), mode=0o600)


def make_request(site: str) -> tuple[bytes, bytes]:
    """Make a site's key and certificate request, as the agent does."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return pem, request.public_bytes(Encoding.PEM)
