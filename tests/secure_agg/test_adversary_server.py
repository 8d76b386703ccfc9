"""A hostile server against honest sites: the code of the refusal, and which secrets came out (by bytes)."""

from dataclasses import replace

import pytest

from secure_agg import messages
from secure_agg.errors import SecureAggregationError
from secure_agg.keys import digest
from secure_agg.plan import Purpose
from tests.secure_agg.cohort import (
    MODEL_HASH,
    NOW,
    Cohort,
    name_of,
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


# survivors


def test_an_altered_header_is_refused(hostile, oracle):
    hostile.run_to_upload()
    altered = replace(hostile.header(B), com_b=digest("com", b"known")).encode()
    other = hostile.header(C).encode()
    for shown in (altered, other):
        freeze = hostile.freeze(ALL, A, headers={B: shown})
        assert refused("E_HEADER_AUTH", hostile.cohort.clients[A].sign_freeze, freeze).facts["site"] == B
    oracle.nothing()


def test_a_malformed_header_or_list_is_refused(hostile, oracle):
    hostile.run_to_upload()
    call = hostile.cohort.clients[A].sign_freeze
    refused("E_DECODE", call, hostile.freeze(ALL, A, headers={B: b"FLSA"}))
    refused("E_DECODE", call, hostile.freeze(ALL, A)[:-1])
    oracle.nothing()


def test_an_own_header_that_is_not_bit_exact_is_refused(hostile, oracle):
    """Even one that the site itself once signed: that of the round before."""
    hostile.run_to_upload()
    old = hostile.header(A)
    hostile.run_to_upload(hostile.start(2))
    call = hostile.cohort.clients[A].sign_freeze
    refused("E_CONTEXT_MISMATCH", call, hostile.freeze(ALL, A, headers={A: old.encode()}))
    key = hostile.cohort.clients[A]._round._signing_key
    other = replace(hostile.header(A), y_hash=bytes(32))
    other = replace(other, sig=key.sign(other.signed_body()))
    refused("E_HEADER_AUTH", call, hostile.freeze(ALL, A, headers={A: other.encode()}))
    oracle.nothing()


@pytest.mark.parametrize("survivors", [(A, B), (A,)])
def test_too_few_survivors_are_refused(hostile, oracle, survivors):
    hostile.run_to_upload()
    refused("E_COHORT_TOO_SMALL", hostile.cohort.clients[A].sign_freeze, hostile.freeze(survivors, A))
    oracle.nothing()


def test_survivors_outside_the_round_or_without_headers_are_refused(hostile, oracle):
    hostile.run_to_upload(hostile.start(users=WITHOUT_D), names=WITHOUT_D)
    call = hostile.cohort.clients[A].sign_freeze
    freeze = messages.Freeze.decode(hostile.freeze(WITHOUT_D, A))
    for bad in (
        replace(freeze, survivors=(0, 1, 2, 3)),
        replace(freeze, headers=freeze.headers[:2]),
        replace(freeze, survivors=(0, 1, 2, 3), headers=(*freeze.headers, (3, b"x"))),
        replace(freeze, bundles=(*freeze.bundles, (3, b"x"))),
    ):
        refused("E_CONTEXT_MISMATCH", call, bad.encode())
    oracle.nothing()


def test_bundles_of_sites_that_dropped_are_refused(hostile, oracle):
    hostile.run_to_upload()
    bundles = {peer: dict(hostile.uploads[NAMES[peer]].bundles)[0] for peer in (1, 2, 3)}
    freeze = hostile.freeze(WITHOUT_D, A, bundles=bundles)
    refused("E_CONTEXT_MISMATCH", hostile.cohort.clients[A].sign_freeze, freeze)


def test_a_dropped_site_closes_the_round(hostile, oracle):
    hostile.run_to_upload()
    call = hostile.cohort.clients[D].sign_freeze
    refused("E_DROPPED", call, hostile.freeze(WITHOUT_D, D))
    refused("E_NOT_FROZEN", call, hostile.freeze(ALL, D))
    oracle.nothing()


# two lists


def test_two_lists_to_one_site_are_an_alarm(hostile, oracle):
    hostile.run_to_upload()
    first = hostile.sign_all(ALL)
    for name in WITHOUT_D:
        refused("E_EQUIVOCATION", hostile.cohort.clients[name].sign_freeze, hostile.freeze(WITHOUT_D, name))
    refused("E_EQUIVOCATION", hostile.cohort.clients[D].sign_freeze, hostile.freeze(WITHOUT_D, D))
    refused("E_NOT_FROZEN", hostile.cohort.clients[A].sign_freeze, hostile.freeze(ALL, A))
    oracle.nothing()
    for name in ALL:
        hostile.reveal(name, first)
    oracle.assert_only(ALL)


def test_the_attack_without_a_certificate_fails(hostile, oracle):
    """ "Everyone survived" to D, "D dropped" to the others: D alone holds the hash it signed."""
    hostile.run_to_upload()
    everyone = hostile.sign_all(ALL, by=[D])
    without = hostile.sign_all(WITHOUT_D)
    for hashes in ((everyone,), (without,), (everyone, without), (without, everyone)):
        error = refused("E_NO_QUORUM", hostile.reveal, D, *hashes)
        assert error.facts["need"] == 3
    for name in WITHOUT_D:
        hostile.reveal(name, without)
    oracle.assert_only(WITHOUT_D, [D])


def test_a_colluder_that_signs_both_lists_does_not_make_two_certificates(colluding):
    hostile, oracle = colluding
    hostile.run_to_upload()
    two = ((A, B, D), (B, C, D))
    hashes = [hostile.sign_all(two[0], by=[A, B]), hostile.sign_all(two[1], by=[C])]
    for hash_ in hashes:
        hostile.collude(hash_)
    for name in (A, B):
        hostile.reveal(name, hashes[0])
    refused("E_NO_QUORUM", hostile.reveal, C, hashes[1])
    refused("E_NO_QUORUM", hostile.reveal, C, hashes[0])
    oracle.assert_only((A, B), [C])
    oracle.assert_hidden()


def test_only_distinct_valid_signatures_of_survivors_count(hostile, oracle):
    hostile.run_to_upload()
    earlier = hostile.sign_all(ALL)
    hostile.run_to_upload(hostile.start(2, model=digest("model", b"next")))
    hash_ = hostile.sign_all(WITHOUT_D, by=[A, B])
    good = dict(messages.Cert.decode(hostile.certificate(hash_)).signatures)
    key = hostile.cohort.clients[D]._round._signing_key
    outside = key.sign(messages.FreezeSig(hash_).signed_body())
    acks = hostile.cohort.clients[C]._round._signing_key
    for more in (
        {},
        {3: outside},  # D is no survivor
        {2: good[1]},  # B's under C's name
        {2: hostile.signatures[earlier][C]},  # of the round before
        {2: acks.sign(hash_)},  # a bare digest
        {2: acks.sign(messages.Reveal(hash_, bytes(32), ()).signed_body())},  # of another kind
        {9: good[1]},
    ):
        certificate = messages.Cert(tuple(sorted((good | more).items()))).encode()
        refused("E_NO_QUORUM", hostile.cohort.clients[A].reveal, certificate)
    twice = b"FLSA\x01\x08" + (3).to_bytes(2, "little")
    twice += b"".join(i.to_bytes(2, "little") + good[i] for i in (0, 1, 1))
    refused("E_DECODE", hostile.cohort.clients[A].reveal, twice)
    oracle.nothing()


# out of turn


def test_nothing_is_revealed_before_its_turn(hostile, oracle):
    client = hostile.cohort.clients[A]
    cert, request = messages.Cert(()).encode(), messages.RecoverReq(bytes(32), (1,)).encode()
    refused("E_NOT_FROZEN", client.reveal, cert)
    hostile.run_to_upload(names=[B, C, D])
    client.begin_round(hostile.start(), MODEL_HASH)
    for call in (client.sign_freeze, client.reveal, client.recover):
        refused("E_NOT_FROZEN", call, cert)
    hostile.run_to_upload(names=[A])
    refused("E_NOT_FROZEN", client.reveal, cert)
    refused("E_NOT_FROZEN", client.recover, request)
    hash_ = hostile.sign_all(ALL)
    refused("E_NOT_FROZEN", client.recover, messages.RecoverReq(hash_, (1,)).encode())
    oracle.nothing()
    hostile.reveal(A, hash_)
    refused("E_NOT_FROZEN", client.reveal, hostile.certificate(hash_))
    oracle.assert_only([A])


def test_recovery_stays_inside_the_survivors_and_happens_once(hostile, oracle):
    hostile.run_to_upload()
    hash_ = hostile.sign_all(WITHOUT_D)
    for name in (A, B):
        hostile.reveal(name, hash_)
    for silent in ([D], [C, D], [A], [A, C], []):
        refused("E_RECOVER_SCOPE", hostile.recover, A, hash_, silent)
    refused("E_EQUIVOCATION", hostile.recover, A, bytes(32), [C])
    hostile.recover(A, hash_, [C])
    for again in ([B], [C], [B, C], [D]):
        refused("E_RECOVER_SCOPE", hostile.recover, A, hash_, again)
    oracle.assert_only((A, B), [D])


def test_the_both_lists_request_gives_nothing(hostile, oracle):
    """F2: the victim as survivor and as dropped, in one request."""
    hostile.run_to_upload()
    hash_ = hostile.sign_all(ALL)
    for name in WITHOUT_D:
        hostile.reveal(name, hash_)
        answer = hostile.recover(name, hash_, [D])
        assert [pairs for _, (_, pairs) in answer.shares] == [()]  # nobody dropped: no pair's share at all
    oracle.assert_only(ALL)
    assert ("b", hostile.header(D).round_ctx, D) in oracle.released()


# again


def test_rounds_and_models_are_not_played_twice(hostile, oracle):
    hostile.run_to_upload()
    call = hostile.cohort.clients[A].begin_round
    refused("E_ROUND_REPLAY", call, hostile.start(1), MODEL_HASH)
    refused("E_ROUND_REPLAY", call, hostile.start(0), MODEL_HASH)
    refused("E_ROUND_REPLAY", call, hostile.start(2 + 65_537), MODEL_HASH)
    hash_ = hostile.sign_all(ALL)
    hostile.reveal(A, hash_)
    refused("E_MODEL_REPLAY", call, hostile.start(2), MODEL_HASH)
    other = digest("model", b"next")
    call(hostile.start(2, model=other), other)
    statistic = plan_of(4, purpose=Purpose.STATISTIC, fields=())
    call(hostile.start(3, plan=statistic), MODEL_HASH)  # a model may be evaluated as often as one likes
    oracle.assert_only([A])


def test_the_same_question_for_near_cohorts_is_not_signed(hostile, oracle):
    """A server that restarts the run, in another epoch, to have the sum without one site."""
    statistic = plan_of(4, purpose=Purpose.STATISTIC)
    hostile.run_to_upload(hostile.start(plan=statistic))
    hash_ = hostile.sign_all(ALL)
    for name in ALL:
        hostile.reveal(name, hash_)
    again = Cohort(4, epoch=2)
    again.vaults = hostile.cohort.vaults
    again.clients = {name: again.client(name) for name in again.names}
    again.server = type(again.server)(
        job_id="job", epoch=2, root_der=the_root().der, cohort_min=3, now=lambda: NOW
    )
    again.set_up()
    later = Hostile(again).run_to_upload(hostile.start(plan=replace(statistic, freeze_s=7)))
    for name in WITHOUT_D:
        error = refused("E_DIFFERENCING", again.clients[name].sign_freeze, later.freeze(WITHOUT_D, name))
        assert error.facts["missing"] == D
    same = later.sign_all(ALL)  # the same sites: the same sum, nothing new
    for name in ALL:
        later.reveal(name, same)
    oracle.assert_only(ALL)


def test_a_result_of_another_list_is_an_alarm(hostile, oracle):
    hostile.run_to_upload()
    hash_ = hostile.sign_all(ALL)
    client = hostile.cohort.clients[A]
    wrong = messages.Result(1, bytes(32), bytes(32), 1, bytes(32)).encode()
    refused("E_EQUIVOCATION", hostile.cohort.clients[B].finish_round, wrong)
    later = messages.Result(2, bytes(32), bytes(32), 1, bytes(32)).encode()
    hostile.cohort.clients[C].finish_round(later)  # it was away for round 2: nothing to compare
    hostile.reveal(A, hash_)
    client.finish_round(messages.Result(1, hash_, bytes(32), 1, bytes(32)).encode())
    refused("E_NOT_FROZEN", client.recover, messages.RecoverReq(hash_, (1,)).encode())
    client.finish_round(wrong)  # nothing is open: nothing to compare
