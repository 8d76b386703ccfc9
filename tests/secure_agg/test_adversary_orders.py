"""A hostile server before the survivors: keys, rosters, orders and plans; the code and what came out."""

from dataclasses import replace

import pytest

from secure_agg import messages
from secure_agg.errors import SecureAggregationError
from secure_agg.identity import Identity, Trust
from secure_agg.keys import digest
from secure_agg.plan import Purpose
from tests.secure_agg.cohort import (
    MODEL_HASH,
    Cohort,
    Root,
    identity_of,
    make_key,
    name_of,
    pins_of,
    plan_of,
    the_root,
)
from tests.secure_agg.hostile import Hostile

A, B, C, D = NAMES = tuple(name_of(index) for index in range(4))
ALL, WITHOUT_D, WITHOUT_C = NAMES, (A, B, C), (A, B, D)


def refused(code, call, *arguments, **about):
    with pytest.raises(SecureAggregationError) as error:
        call(*arguments, **about)
    assert error.value.code == code
    assert "?" not in str(error.value)  # every fact of the sentence is there
    return error.value


@pytest.fixture
def oracle(watch):
    return watch(NAMES)


@pytest.fixture
def hostile(oracle):
    return Hostile(Cohort(4))


@pytest.fixture
def colluding(watch):
    """The server with site D, whose keys it has."""
    return Hostile(Cohort(4), colluders=[D]), watch(NAMES, colluders=[D])


# keys


def swapped(adverts, name, by):
    return messages.Roster(tuple(by if advert.name == name else advert for advert in adverts)).encode()


@pytest.fixture
def setting():
    cohort = Cohort(4, ready=False, trust=Trust(the_root().der, pins_of(NAMES)))
    adverts = [messages.Advert.decode(client.advert()) for client in cohort.clients.values()]
    return cohort, adverts


def test_a_swapped_key_is_refused(setting, oracle):
    cohort, adverts = setting
    roster = swapped(adverts, B, replace(adverts[1], x25519_pk=b"\7" * 32))
    assert refused("E_KEY_AUTH", cohort.clients[A].accept_roster, roster).facts["site"] == B
    oracle.nothing()


def test_a_key_under_a_rogue_root_is_refused(setting, oracle):
    cohort, adverts = setting
    key, rogue = make_key(), Root()
    advert = Identity(B, key, (rogue.leaf(key, B),)).sign_advert(adverts[1])
    refused("E_KEY_AUTH", cohort.clients[A].accept_roster, swapped(adverts, B, advert))


def test_a_valid_certificate_that_is_not_pinned_is_refused(setting, oracle):
    cohort, adverts = setting
    key = make_key()
    advert = Identity(B, key, (the_root().leaf(key, B),)).sign_advert(adverts[1])
    assert (
        refused("E_NOT_PINNED", cohort.clients[A].accept_roster, swapped(adverts, B, advert)).facts["site"]
        == B
    )


def test_the_advert_of_an_earlier_epoch_is_refused(setting, oracle):
    cohort, adverts = setting
    old = messages.Advert.decode(Cohort(4, epoch=7, ready=False).clients[B].advert())
    refused("E_STALE_ADVERT", cohort.clients[A].accept_roster, swapped(adverts, B, old))


def test_an_own_key_that_is_missing_or_altered_is_refused(setting, oracle):
    cohort, adverts = setting
    refused("E_SELF_MISSING", cohort.clients[A].accept_roster, messages.Roster(tuple(adverts[1:])).encode())
    mine = identity_of(A).sign_advert(replace(adverts[0], x25519_pk=b"\7" * 32))
    refused("E_SELF_MISSING", cohort.clients[A].accept_roster, swapped(adverts, A, mine))


def test_one_key_for_two_sites_is_refused(setting, oracle):
    cohort, adverts = setting
    twin = identity_of(B).sign_advert(replace(adverts[1], x25519_pk=adverts[2].x25519_pk))
    refused("E_DUPLICATE_KEY", cohort.clients[A].accept_roster, swapped(adverts, B, twin))


def test_a_key_of_low_order_is_refused(setting, oracle):
    cohort, adverts = setting
    weak = identity_of(B).sign_advert(replace(adverts[1], x25519_pk=bytes(32)))
    error = refused("E_KEY_AUTH", cohort.clients[A].accept_roster, swapped(adverts, B, weak))
    assert "nothing secret" in error.facts["reason"]


def test_a_refused_roster_leaves_no_keys_behind(setting, oracle):
    cohort, adverts = setting
    refused("E_SELF_MISSING", cohort.clients[A].accept_roster, messages.Roster(tuple(adverts[1:])).encode())
    assert cohort.vaults[A].state is None
    cohort.clients[A].accept_roster(messages.Roster(tuple(adverts)).encode())


def test_two_rosters_give_masks_that_do_not_cancel_and_nothing_is_signed(oracle):
    """A server may show site D another member B, who is real, has a certificate and works with the server."""
    cohort = Cohort(4, ready=False)
    adverts = [messages.Advert.decode(client.advert()) for client in cohort.clients.values()]
    other = identity_of(B).sign_advert(replace(adverts[1], ed25519_pk=b"\7" * 32))
    for name in NAMES:
        roster = swapped(adverts, B, other if name == D else adverts[1])
        cohort.clients[name].accept_roster(roster)
    hostile = Hostile(cohort).run_to_upload()
    for name in WITHOUT_D:
        error = refused("E_CONTEXT_MISMATCH", cohort.clients[name].sign_freeze, hostile.freeze(ALL, name))
        assert error.facts["site"] == D
    oracle.nothing()


# one context


@pytest.mark.parametrize(
    "other",
    [
        {"number": 2},
        {"plan": plan_of(4, context=b"x" * 32)},
        {"plan": plan_of(4, purpose=Purpose.STATISTIC)},
        {"model": digest("model", b"other")},
        {"users": WITHOUT_C},
    ],
)
def test_another_order_to_one_site_is_found_before_anything_is_revealed(hostile, oracle, other):
    hostile.run_to_upload(instead={D: hostile.start(**other)})
    for name in ALL:
        refused("E_CONTEXT_MISMATCH", hostile.cohort.clients[name].sign_freeze, hostile.freeze(ALL, name))
    oracle.nothing()
    # without the odd one the others may go on; it is not in the sum
    hash_ = hostile.sign_all(WITHOUT_D)
    for name in WITHOUT_D:
        hostile.reveal(name, hash_)
    oracle.assert_only(WITHOUT_D, [D])


def test_the_model_that_was_received_must_be_the_one_that_was_announced(hostile, oracle):
    call = hostile.cohort.clients[A].begin_round
    refused("E_CONTEXT_MISMATCH", call, hostile.start(), digest("model", b"what really came"))


def test_a_site_that_is_not_asked_for_does_not_take_part(hostile, oracle):
    call = hostile.cohort.clients[D].begin_round
    refused("E_SELF_MISSING", call, hostile.start(users=WITHOUT_D), MODEL_HASH)
    start = messages.RoundStart(1, (0, 1, 2, 3, 9), hostile.cohort.plan.encode(), MODEL_HASH).encode()
    refused("E_SELF_MISSING", call, start, MODEL_HASH)


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (plan_of(4, colluding=0), "E_PLAN"),  # a smaller threshold
        (plan_of(4, site_count=3), "E_PLAN"),  # sums that could wrap
        (plan_of(4, cohort_min=2), "E_PLAN"),
        (plan_of(4, colluding=3, site_count=5), "E_PLAN"),  # one honest input in a sum of four
        (plan_of(4, cohort_min=5, site_count=9), "E_COHORT_TOO_SMALL"),
        (plan_of(4, weight_max=2**31), "E_OVERFLOW_BUDGET"),
    ],
)
def test_plans_that_weaken_the_masks_are_refused(hostile, oracle, plan, code):
    if code == "E_OVERFLOW_BUDGET":
        plan = replace(plan, fields=(replace(plan.fields[0], log2_clip=62),))
    refused(code, hostile.cohort.clients[A].begin_round, hostile.start(plan=plan), MODEL_HASH)


def test_a_cohort_of_two_is_refused_by_the_site_itself(hostile, oracle):
    call = hostile.cohort.clients[A].begin_round
    refused("E_COHORT_TOO_SMALL", call, hostile.start(users=(A, B)), MODEL_HASH)


def test_the_site_s_own_policy_has_the_last_word(oracle):
    def never(plan):
        raise SecureAggregationError("E_PLAN", reason="not here")

    cohort = Cohort(4, accept_plan=never)
    refused("E_PLAN", cohort.clients[A].begin_round, Hostile(cohort).start(), MODEL_HASH)
    refused("E_NOT_FROZEN", cohort.clients[A].upload, {}, 1, {})
