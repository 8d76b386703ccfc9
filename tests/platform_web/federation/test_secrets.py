import pytest

from platform_web.federation import secrets
from site_kits.errors import MasterKeyError


def test_a_sealed_secret_opens_under_its_name_only():
    sealed = secrets.seal("a", b"secret")
    assert b"secret" not in sealed
    assert secrets.unseal("a", sealed) == b"secret"
    with pytest.raises(MasterKeyError):
        secrets.unseal("b", sealed)


def test_two_seals_of_one_secret_differ():
    assert secrets.seal("a", b"secret") != secrets.seal("a", b"secret")


@pytest.mark.parametrize("sealed", [b"", b"short", b"\0" * 60])
def test_rubbish_is_a_sentence(sealed):
    with pytest.raises(MasterKeyError, match="cannot be opened"):
        secrets.unseal("a", sealed)


def test_another_master_key_is_noticed_in_one_sentence(settings):
    check = secrets.make_key_check()
    secrets.check_master_key(check)
    settings.CONSILIUM_MASTER_KEY = b"x" * 32
    with pytest.raises(MasterKeyError, match="not the key this portal was set up with"):
        secrets.check_master_key(check)
