"""Passwords are kept with Argon2id; older ones move over at the next sign-in."""

import pytest
from django.contrib.auth.hashers import identify_hasher, make_password
from django.contrib.auth.models import User

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


@pytest.mark.django_db
def test_an_older_hash_is_replaced_at_sign_in():
    user = User(username="ada", password=make_password(PASSWORD, hasher="pbkdf2_sha256"))
    user.save()
    assert user.check_password(PASSWORD)
    user.refresh_from_db()
    assert user.password.startswith("argon2$")
    assert user.check_password(PASSWORD)
