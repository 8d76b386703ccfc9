import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from site_kits.errors import SignatureError
from site_kits.tickets import LIFETIME_S, issue_ticket, load_public_key, new_claims, verify_ticket

NOW = 1_800_000_000.0
KEY = Ed25519PrivateKey.generate()
KEYS = {"k1": KEY.public_key()}


def ticket(**changes):
    claims = new_claims(site="site-a", study="cytology", promotion=7, subject="ab12", now=NOW)
    return issue_ticket(KEY, "k1", claims.model_copy(update=changes))


def test_a_genuine_ticket_gives_its_claims():
    assert verify_ticket(KEYS, ticket(), site="site-a", now=NOW + 10).promotion == 7


def test_a_ticket_for_another_site_is_refused():
    with pytest.raises(SignatureError, match="another site"):
        verify_ticket(KEYS, ticket(), site="site-b", now=NOW)


@pytest.mark.parametrize("moment", [NOW + LIFETIME_S, NOW - 60])
def test_a_ticket_works_for_five_minutes(moment):
    with pytest.raises(SignatureError, match="over"):
        verify_ticket(KEYS, ticket(), site="site-a", now=moment)


def test_a_ticket_that_claims_a_longer_life_is_refused():
    with pytest.raises(SignatureError, match="over"):
        verify_ticket(KEYS, ticket(exp=int(NOW) + 3600), site="site-a", now=NOW)


def test_another_key_does_not_sign_for_ours():
    foreign = issue_ticket(
        Ed25519PrivateKey.generate(),
        "k1",
        new_claims(site="site-a", study="s", promotion=1, subject="x", now=NOW),
    )
    with pytest.raises(SignatureError, match="not genuine"):
        verify_ticket(KEYS, foreign, site="site-a", now=NOW)


def test_an_unknown_key_is_named_as_such():
    with pytest.raises(SignatureError, match="does not know"):
        verify_ticket({}, ticket(), site="site-a", now=NOW)


@pytest.mark.parametrize("text", ["", ".", "a.b", "é.é", "x" * 5000, "e30.e30"])
def test_rubbish_is_refused_with_a_sentence(text):
    with pytest.raises(SignatureError):
        verify_ticket(KEYS, text, site="site-a", now=NOW)


def test_every_flipped_character_is_refused():
    good = ticket()
    for place in range(0, len(good) - 2, 7):  # the last character holds unused bits
        bad = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        with pytest.raises(SignatureError):
            verify_ticket(KEYS, bad, site="site-a", now=NOW)


def test_a_public_key_is_read_from_its_base64():
    text = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
    assert load_public_key(text).public_bytes_raw() == KEY.public_key().public_bytes_raw()
    with pytest.raises(SignatureError):
        load_public_key("AAAA")
