"""Passwords are kept with Argon2id, and with nothing else."""

import pytest
from django.contrib.auth.hashers import identify_hasher, make_password

from infra.settings import base

PASSWORD = "a long and quiet river"


@pytest.fixture(autouse=True)
def as_in_production(settings):
    settings.PASSWORD_HASHERS = base.PASSWORD_HASHERS


def test_a_new_password_is_kept_with_argon2id():
    encoded = make_password(PASSWORD)
    assert encoded.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert identify_hasher(encoded).verify(PASSWORD, encoded)
    assert not identify_hasher(encoded).verify("another", encoded)


def test_a_sign_in_changes_no_hash():
    """Django would replace an older one at sign-in, before the entry and whatever becomes of it."""
    encoded = make_password(PASSWORD)
    assert not identify_hasher(encoded).must_update(encoded)
    assert len(base.PASSWORD_HASHERS) == 1
