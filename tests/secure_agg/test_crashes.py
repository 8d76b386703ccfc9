"""A site that dies between any two lines and is started again masks nothing twice and signs one list."""

import os

import numpy as np
import pytest

from secure_agg import client_round, messages
from secure_agg.errors import SecureAggregationError
from secure_agg.ledger import open_ledger
from secure_agg.state import open_state
from tests.secure_agg.cohort import MODEL_HASH, Cohort, name_of
from tests.secure_agg.hostile import Hostile
from tests.secure_agg.power_cuts import Cut, FailingVault, PowerCutError

A, B, C, D = NAMES = tuple(name_of(index) for index in range(4))
CUTS = int(os.environ.get("CONSILIUM_SECAGG_N", "2000")) // 20  # every line from 20,000 on


@pytest.fixture
def masked(monkeypatch):
    """The seeds of pairs with which a vector was encoded, once for each vector."""
    used = []

    def encode(plan, tensors, weight, statistics, masks):
        used.append([seed for seed, _ in masks])
        return ENCODE(plan, tensors, weight, statistics, masks)

    monkeypatch.setattr(client_round, "encode_masked", encode)
    return used


ENCODE = client_round.encode_masked


def assert_no_seed_twice(masked):
    seeds = [seed for of_vector in masked for seed in of_vector]
    assert len(seeds) == len(set(seeds))


def restart(cohort, name=A):
    cohort.clients[name] = cohort.client(name)
    return cohort.clients[name]


def upload_cut_at(at, masked):
    """Cut A's upload at line ``at``, start A again, and have the server ask for the same round."""
    cohort = Cohort(4)
    start = Hostile(cohort).start()
    cohort.clients[A].begin_round(start, MODEL_HASH)
    masked.clear()
    with Cut(at) as cut:
        try:
            cohort.upload(A)
        except PowerCutError:
            pass
        else:
            return cut.count, "whole"
    client = restart(cohort)
    try:
        client.begin_round(start, MODEL_HASH)
    except SecureAggregationError as error:
        code = error.code
    else:
        cohort.upload(A)
        assert len(masked) == 1
        return cut.count, "untouched"
    client.begin_round(Hostile(cohort).start(2), MODEL_HASH)
    cohort.upload(A)
    assert code == "E_ROUND_REPLAY"
    assert_no_seed_twice(masked)
    return cut.count, "used up"


def test_an_upload_cut_between_any_two_lines_masks_nothing_twice(masked):
    lines, end = upload_cut_at(None, masked)
    assert end == "whole"
    step = max(1, lines // CUTS)
    ends = [upload_cut_at(at, masked)[1] for at in [*range(1, lines, step), lines]]
    assert {"untouched", "used up"} <= set(ends)
    assert ends == sorted(
        ends, key=["untouched", "used up"].index
    )  # one line divides them: the state's write


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", [2, 3])  # of ledger and state, one inside the other; 1 is the check of age
def test_an_upload_whose_write_fails_is_not_sent_and_masks_nothing_twice(masked, write, when):
    cohort = Cohort(4)
    start = Hostile(cohort).start()
    client = cohort.clients[A] = cohort.client(A, vault=FailingVault(cohort.vaults[A], write, when))
    client.begin_round(start, MODEL_HASH)
    with pytest.raises(PowerCutError):
        cohort.upload(A)
    assert masked == []
    tried = []
    for refusing in (client, restart(cohort)):  # the same process, and the next one
        cohort.clients[A] = refusing
        try:
            refusing.begin_round(start, MODEL_HASH)
            cohort.upload(A)
        except SecureAggregationError as error:
            tried.append(error.code)
    assert set(tried) <= {"E_ROUND_REPLAY", "E_STATE_ROLLBACK"}
    assert_no_seed_twice(masked)
    assert len(masked) == (when == "before")  # nothing was on disk: nothing had happened


def test_the_state_is_on_disk_before_a_byte_leaves():
    cohort = Cohort(4)
    hostile = Hostile(cohort).run_to_upload(names=[A])
    vault = cohort.vaults[A]
    state = open_state(vault.key, vault.state)
    assert state.next_round == 2
    assert open_ledger(vault.key, vault.ledger).marked(state.job_ctx) == 2
    assert hostile.header(A).index == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_signature_whose_write_fails_does_not_leave(watch, at, when):
    cohort = Cohort(4)
    oracle = watch(NAMES)
    hostile = Hostile(cohort).run_to_upload()
    client, vault = cohort.clients[A], cohort.vaults[A]
    client._memory._vault = FailingVault(vault, at, when)
    before = len(oracle.sent)
    with pytest.raises(PowerCutError):
        client.sign_freeze(hostile.freeze(NAMES, A))
    assert len(oracle.sent) == before
    freeze = hostile.freeze((A, B, C), A)
    if (at, when) == (1, "before"):
        client.sign_freeze(freeze)  # nothing was noted: as if it had never been asked
    else:
        with pytest.raises(SecureAggregationError) as refused:
            client.sign_freeze(freeze)
        assert refused.value.code in ("E_DIFFERENCING", "E_EQUIVOCATION")
    oracle.nothing()


def freeze_cut_at(at):
    """Cut A's signature at line ``at``; whichever list comes then, A never signs two."""
    cohort = Cohort(4)
    hostile = Hostile(cohort).run_to_upload()
    with Cut(at) as cut:
        try:
            answer = cohort.clients[A].sign_freeze(hostile.freeze(NAMES, A))
        except PowerCutError:
            answer = None
    if answer is not None:
        return cut.count, True
    client = restart(cohort)
    for call, message in (
        (client.sign_freeze, hostile.freeze((A, B, C), A)),
        (client.sign_freeze, hostile.freeze(NAMES, A)),
        (client.reveal, messages.Cert(()).encode()),
        (client.recover, messages.RecoverReq(bytes(32), (1,)).encode()),
    ):
        with pytest.raises(SecureAggregationError) as refused:
            call(message)
        assert refused.value.code == "E_NOT_FROZEN"
    with pytest.raises(SecureAggregationError, match="already used"):
        client.begin_round(hostile.start(), MODEL_HASH)
    return cut.count, False


def test_a_signature_cut_between_any_two_lines_is_never_given_for_another_list():
    lines, whole = freeze_cut_at(None)
    assert whole
    step = max(1, lines // CUTS)
    assert not any(freeze_cut_at(at)[1] for at in [*range(1, lines, step), lines])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reveal_whose_write_fails_does_not_leave(watch, when):
    cohort = Cohort(4)
    oracle = watch(NAMES)
    hostile = Hostile(cohort).run_to_upload()
    hash_ = hostile.sign_all(NAMES)
    cohort.clients[A]._memory._vault = FailingVault(cohort.vaults[A], 1, when)
    with pytest.raises(PowerCutError):
        hostile.reveal(A, hash_)
    oracle.nothing()
    spent = open_state(cohort.vaults[A].key, cohort.vaults[A].state).spent
    assert spent == ((MODEL_HASH,) if when == "after" else ())
    hostile.reveal(A, hash_)  # the same to the same list: nothing new
    oracle.assert_only([A])


def test_a_site_started_again_goes_on_with_the_next_round():
    cohort = Cohort(4)
    first = cohort.begin(1)
    for name in NAMES:
        first.add_upload(name, *cohort.upload(name))
    advert = cohort.clients[A].advert()
    client = restart(cohort)
    assert client.advert() == advert
    assert client.accept_roster(cohort.roster_message) == cohort.clients[A].accept_roster(
        cohort.roster_message
    )
    assert client.roster.names == NAMES
    with pytest.raises(SecureAggregationError) as refused:
        client.accept_roster(messages.Roster(cohort.server.roster.adverts[:3]).encode())
    assert refused.value.code == "E_NOT_FROZEN"
    round_ = cohort.begin(2)
    for name in NAMES:
        round_.add_upload(name, *cohort.upload(name))
    for name, message in round_.freeze().items():
        round_.add_signature(name, cohort.clients[name].sign_freeze(message))
    for name in NAMES:
        round_.add_reveal(name, cohort.clients[name].reveal(round_.certificate()))
    total, weight = cohort.sum_of(NAMES)
    assert np.abs(round_.unmask().means()["w"] - total / weight).max() < 1e-6


def test_a_lost_state_means_new_keys_and_the_old_epoch_is_over():
    cohort = Cohort(4)
    advert = cohort.clients[A].advert()
    cohort.vaults[A].state = None
    client = cohort.client(A, random_bytes=lambda size: b"\5" * size)
    assert client.advert() != advert
    with pytest.raises(SecureAggregationError) as refused:
        client.accept_roster(cohort.roster_message)
    assert refused.value.code == "E_SELF_MISSING"


def test_a_state_brought_back_from_a_backup_is_refused():
    cohort = Cohort(4)
    backup = cohort.vaults[A].state
    Hostile(cohort).run_to_upload()
    cohort.vaults[A].state = backup
    client = restart(cohort)
    for call in (client.advert, lambda: client.begin_round(Hostile(cohort).start(), MODEL_HASH)):
        with pytest.raises(SecureAggregationError) as refused:
            call()
        assert refused.value.code == "E_STATE_ROLLBACK"


def test_a_site_has_no_turn_before_its_keys():
    cohort = Cohort(4, ready=False)
    client = cohort.clients[A]
    start = Hostile(cohort).start()
    for call in (
        lambda: client.roster,
        lambda: client.accept_roster(b""),
        lambda: client.begin_round(start, MODEL_HASH),
        lambda: client.upload({}, 1, {}),
        lambda: client.sign_freeze(b""),
        lambda: client.reveal(b""),
        lambda: client.recover(b""),
    ):
        with pytest.raises(SecureAggregationError) as refused:
            call()
        assert refused.value.code == "E_NOT_FROZEN"
    assert client.advert() == client.advert()


def test_an_update_that_cannot_be_encoded_ends_the_round_at_this_site(masked):
    cohort = Cohort(4)
    client = cohort.clients[A]
    client.begin_round(Hostile(cohort).start(), MODEL_HASH)
    with pytest.raises(SecureAggregationError) as refused:
        client.upload({"w": np.full(3, np.nan, np.float32)}, 5, {"loss": 0.0})
    assert refused.value.code == "E_NONFINITE"
    for call in (lambda: cohort.upload(A), lambda: client.begin_round(Hostile(cohort).start(), MODEL_HASH)):
        with pytest.raises(SecureAggregationError) as refused:
            call()
        assert refused.value.code == "E_ROUND_REPLAY"
    with pytest.raises(SecureAggregationError) as refused:
        client.sign_freeze(messages.Freeze((0, 1, 2), (), ()).encode())
    assert refused.value.code == "E_NOT_FROZEN"
    assert len(masked) == 1


def test_a_skipped_round_costs_only_its_keys():
    cohort = Cohort(4)
    for number in (1, 5, 64):
        round_ = cohort.begin(number, hash_=bytes([number]) * 32)
        for name in NAMES:
            round_.add_upload(name, *cohort.upload(name))
        assert round_.uploaded == NAMES
