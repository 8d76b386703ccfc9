"""What a site checks before it agrees on keys with anybody."""

from dataclasses import replace

import pytest

from secure_agg import messages
from secure_agg.errors import SecureAggregationError
from secure_agg.identity import Identity, Trust
from secure_agg.roster import Roster, member_hash, verify_roster
from tests.secure_agg.cohort import NOW, Cohort, identity_of, make_key, name_of, pins_of, the_root


@pytest.fixture
def adverts():
    cohort = Cohort(4, ready=False)
    return [messages.Advert.decode(client.advert()) for client in cohort.clients.values()]


def refused(adverts, own, trust=None):
    with pytest.raises(SecureAggregationError) as error:
        verify_roster(Roster.of(adverts), own, trust or Trust(the_root().der), now=NOW)
    return error.value


def resigned(advert, **changes):
    return identity_of(advert.name).sign_advert(replace(advert, **changes))


def test_a_right_roster_is_pinned_or_trusted_to_the_authority(adverts):
    roster, own = Roster.of(reversed(adverts)), adverts[0]
    assert roster.names == tuple(name_of(index) for index in range(4))
    assert len(roster) == 4
    assert not verify_roster(roster, own, Trust(the_root().der), now=NOW)
    pins = pins_of(roster.names[1:])  # a site does not pin itself
    assert verify_roster(roster, own, Trust(the_root().der, pins), now=NOW)


def test_a_peer_without_its_pin_is_refused(adverts):
    pins = pins_of([name_of(1), name_of(2)])
    error = refused(adverts, adverts[0], Trust(the_root().der, pins))
    assert (error.code, error.facts["site"]) == ("E_NOT_PINNED", name_of(3))


def test_a_valid_certificate_of_another_key_is_not_the_pinned_one(adverts):
    key, name = make_key(), name_of(3)
    swapped = Identity(name, key, (the_root().leaf(key, name),)).sign_advert(adverts[3])
    trust = Trust(the_root().der, pins_of([name_of(index) for index in range(4)]))
    assert refused([*adverts[:3], swapped], adverts[0], trust).code == "E_NOT_PINNED"
    assert not verify_roster(
        Roster.of([*adverts[:3], swapped]), adverts[0], Trust(the_root().der), now=NOW
    )  # which is why pins exist


def test_a_roster_without_or_with_another_own_advert_is_refused(adverts):
    assert refused(adverts[1:], adverts[0]).code == "E_SELF_MISSING"
    changed = resigned(adverts[0], x25519_pk=b"\7" * 32)
    assert refused([changed, *adverts[1:]], adverts[0]).code == "E_SELF_MISSING"


def test_two_sites_are_no_cohort(adverts):
    assert refused(adverts[:2], adverts[0]).code == "E_COHORT_TOO_SMALL"


@pytest.mark.parametrize("key", ["x25519_pk", "ed25519_pk"])
@pytest.mark.parametrize("other", ["x25519_pk", "ed25519_pk"])
def test_one_key_under_two_names_is_refused(adverts, key, other):
    copied = resigned(adverts[2], **{key: getattr(adverts[1], other)})
    error = refused([*adverts[:2], copied, adverts[3]], adverts[0])
    assert error.code == "E_DUPLICATE_KEY"
    assert {error.facts["site"], error.facts["peer"]} == {name_of(1), name_of(2)}


def test_one_certificate_key_under_two_names_is_refused(adverts):
    key, name = identity_of(name_of(1)).private_key, name_of(2)
    twin = Identity(name, key, (the_root().leaf(key, name),)).sign_advert(adverts[2])
    assert refused([*adverts[:2], twin, adverts[3]], adverts[0]).code == "E_DUPLICATE_KEY"


def test_a_peers_bad_advert_is_refused(adverts):
    error = refused([*adverts[:3], replace(adverts[3], x25519_pk=b"\7" * 32)], adverts[0])
    assert (error.code, error.facts["site"]) == ("E_KEY_AUTH", name_of(3))


def test_the_roster_hash_is_of_names_certificates_and_keys(adverts):
    roster = Roster.of(adverts)
    same = Roster.of([resigned(adverts[0], expiry=NOW + 5), *adverts[1:]])
    assert same.roster_hash == roster.roster_hash
    for change in ({"x25519_pk": b"\7" * 32}, {"ed25519_pk": b"\7" * 32}, {"name": "site-09"}):
        assert member_hash(replace(adverts[0], **change)) != member_hash(adverts[0])
    assert Roster.of(adverts[1:]).roster_hash != roster.roster_hash
    assert roster.job_ctx("job", 1) != roster.job_ctx("job", 2) != roster.job_ctx("jo", 2)


def test_an_index_is_of_a_member(adverts):
    roster = Roster.of(adverts)
    assert roster.index(name_of(2)) == 2
    with pytest.raises(SecureAggregationError, match="left out"):
        roster.index("site-09")


def test_a_key_that_is_no_point_signs_nothing(adverts):
    roster = Roster.of([replace(adverts[0], ed25519_pk=b"\2" + bytes(31)), *adverts[1:]])
    assert not roster.is_signed(0, bytes(64), b"body")
    assert not roster.is_signed(1, bytes(64), b"body")
