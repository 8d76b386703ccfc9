"""The search that proofs rest on finds a key in whatever form it might be kept outside."""

import json
import sqlite3
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.prove.secrets_hunt import key_needles, search


@pytest.fixture(scope="module")
def pem():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def in_sqlite(path, pem):
    with closing(sqlite3.connect(path)) as link:
        link.execute("CREATE TABLE kept (blob)")
        link.execute("INSERT INTO kept VALUES (?)", (pem,))
        link.commit()


def der(pem, form=PrivateFormat.PKCS8):
    return load_pem_private_key(pem, None).private_bytes(Encoding.DER, form, NoEncryption())


FORMS = {
    "database": in_sqlite,
    "as it is": lambda path, pem: path.write_bytes(b"x" * 37 + pem),
    "escaped in JSON": lambda path, pem: path.write_text(json.dumps({"key": pem.decode()})),
    "without line breaks": lambda path, pem: path.write_bytes(b"".join(pem.splitlines()[1:-1])),
    "DER": lambda path, pem: path.write_bytes(der(pem)),
    "the older DER": lambda path, pem: path.write_bytes(der(pem, PrivateFormat.TraditionalOpenSSL)),
    "hex": lambda path, pem: path.write_text(der(pem).hex()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_found(tmp_path, pem, form):
    FORMS[form](tmp_path / "kept.bin", pem)
    found, _read = search({"key": key_needles(pem)}, [tmp_path])
    assert set(found) == {"key"}


def test_another_key_is_not(tmp_path, pem):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "other").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert search({"key": key_needles(pem)}, [tmp_path])[0] == {}
