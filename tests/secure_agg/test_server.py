"""The honest server: order of steps, what it refuses, what it says afterwards, several threads at once."""

import json
import threading

import numpy as np
import pytest

from secure_agg import messages
from secure_agg.errors import SecureAggregationError
from secure_agg.identity import Trust
from secure_agg.recovery import reconstruct_checked
from secure_agg.shamir import split
from tests.secure_agg.cohort import MODEL_HASH, NOW, Cohort, Stream, name_of, pins_of, plan_of, the_root
from tests.secure_agg.test_dropouts import assert_right, play


def refused(code, call, *arguments, **about):
    with pytest.raises(SecureAggregationError) as error:
        call(*arguments, **about)
    assert error.value.code == code
    return error.value


@pytest.fixture
def early():
    return Cohort(4, ready=False)


def test_adverts_are_checked_before_the_roster_is_fixed(early):
    adverts = {name: client.advert() for name, client in early.clients.items()}
    server = early.server
    refused("E_NOT_FROZEN", lambda: server.roster)
    assert refused("E_DECODE", server.add_advert, "site-00", b"x").facts["site"] == "site-00"
    refused("E_KEY_AUTH", server.add_advert, "site-00", adverts["site-01"])
    stale = Cohort(4, epoch=2, ready=False).clients["site-00"].advert()
    refused("E_STALE_ADVERT", server.add_advert, "site-00", stale)
    for name in early.names[:2]:
        server.add_advert(name, adverts[name])
    refused("E_COHORT_TOO_SMALL", server.roster_message)
    refused("E_STALE_ADVERT", server.add_advert, "site-00", adverts["site-00"])
    server.add_advert("site-02", adverts["site-02"])
    assert server.roster_message() == server.roster_message()
    refused("E_STALE_ADVERT", server.add_advert, "site-03", adverts["site-03"])
    assert server.roster.names == early.names[:3]
    assert server.members == ()


def test_acknowledgements_are_of_members_for_this_job(early):
    for name, client in early.clients.items():
        early.server.add_advert(name, client.advert())
    roster = early.server.roster_message()
    ack = early.clients["site-00"].accept_roster(roster)
    refused("E_HEADER_AUTH", early.server.add_ack, "site-01", ack)
    refused("E_SELF_MISSING", early.server.add_ack, "site-09", ack)
    other = messages.RosterAck(bytes(32), True, bytes(64)).encode()
    refused("E_CONTEXT_MISMATCH", early.server.add_ack, "site-00", other)
    early.server.add_ack("site-00", ack)
    assert early.server.members == ("site-00",)
    error = refused("E_KEY_AUTH", early.server.begin_round, 1, early.names, early.plan, MODEL_HASH)
    assert error.facts["site"] == "site-01"


def test_a_site_lost_during_setup_is_no_user_of_any_round(early):
    """F5: nobody holds shares of it, so nobody can be asked for them."""
    for name in early.names[:3]:
        early.server.add_advert(name, early.clients[name].advert())
    roster = early.server.roster_message()
    for name in early.names[:3]:
        early.server.add_ack(name, early.clients[name].accept_roster(roster))
    round_ = early.server.begin_round(1, early.server.members, plan_of(3), MODEL_HASH)
    assert round_.users == early.names[:3]


def test_the_receipt_of_the_keys():
    names = [name_of(index) for index in range(4)]
    cohort = Cohort(4)
    pinned = Trust(the_root().der, pins_of(names))
    mixed = Cohort(4, ready=False)
    mixed.clients["site-02"] = mixed.client("site-02", trust=pinned)
    mixed.set_up()
    assert set(cohort.server.facts()["verified"].values()) == {"ca"}
    facts = json.loads(json.dumps(mixed.server.facts()))
    assert facts == {
        "sites": names,
        "verified": {name: "pinned" if name == "site-02" else "ca" for name in names},
        "threshold": 3,
        "colluding": 1,
        "cohort_min": 3,
        "roster_hash": mixed.server.roster.roster_hash.hex(),
    }


def test_round_numbers_only_rise(cohort):
    cohort.server.begin_round(3, cohort.names, cohort.plan, MODEL_HASH)
    for number in (1, 3):
        refused("E_ROUND_REPLAY", cohort.server.begin_round, number, cohort.names, cohort.plan, MODEL_HASH)
    refused("E_COHORT_TOO_SMALL", cohort.server.begin_round, 4, cohort.names[:2], cohort.plan, MODEL_HASH)
    cohort.server.begin_round(4, cohort.names, cohort.plan, MODEL_HASH)


def test_the_receipt_of_a_round_is_public(cohort):
    round_ = play(cohort, {"upload": ["site-03"]})
    assert (round_.uploaded, round_.silent) == (cohort.names[:3], ())
    assert_right(cohort, round_, cohort.names[:3])
    facts = json.loads(json.dumps(round_.facts()))
    assert facts.pop("bytes_per_site") > cohort.plan.vector_bytes
    for name in ("freeze_hash", "round_ctx"):
        assert len(bytes.fromhex(facts.pop(name))) == 32
    assert facts == {
        "round": 1,
        "ring": 64,
        "threshold": 3,
        "cohort": list(cohort.names[:3]),
        "signers": list(cohort.names[:3]),
        "recovered": [],
        "blamed": [],
        "complaints": {},
        "clipped": 0,
        "clip_total": 9,
    }
    result = messages.Result.decode(round_.result(b"s" * 32))
    assert (result.total_weight, result.aggregate_sha256) == (10 + 11 + 12, b"s" * 32)
    for client in cohort.clients.values():
        client.finish_round(result.encode())


def test_nothing_is_opened_before_its_turn(cohort):
    round_ = cohort.begin(1)
    refused("E_NO_QUORUM", round_.certificate)
    refused("E_NO_QUORUM", round_.unmask)
    refused("E_NOT_FROZEN", round_.result, bytes(32))
    refused("E_COHORT_TOO_SMALL", round_.freeze)
    refused(
        "E_DROPPED",
        round_.add_reveal,
        "site-00",
        messages.Reveal(bytes(32), bytes(32), (), bytes(64)).encode(),
    )
    assert (round_.recovered, round_.facts()["clipped"], round_.facts()["cohort"]) == ((), 0, [])


def test_silent_survivors_that_nobody_was_asked_for_are_not_summed(cohort):
    round_ = cohort.begin(1)
    for name in cohort.names:
        round_.add_upload(name, *cohort.upload(name))
    for name, message in round_.freeze().items():
        round_.add_signature(name, cohort.clients[name].sign_freeze(message))
    for name in cohort.names[:3]:
        round_.add_reveal(name, cohort.clients[name].reveal(round_.certificate()))
    assert round_.silent == ("site-03",)
    refused("E_RECOVERY_FAILED", round_.unmask)
    request = round_.recover_request()
    for name in cohort.names[:3]:
        round_.add_recovery(name, cohort.clients[name].recover(request))
    assert_right(cohort, round_, cohort.names)


def test_answers_on_many_threads_all_count():
    cohort = Cohort(10)
    round_ = cohort.begin(1)
    uploads = {name: cohort.upload(name) for name in cohort.names}
    failures = []

    def at_once(work):
        gate = threading.Barrier(len(cohort.names))

        def one(name):
            gate.wait()
            try:
                work(name)
            except Exception as error:  # noqa: BLE001 - a thread's failure must fail the test
                failures.append(error)

        threads = [threading.Thread(target=one, args=(name,)) for name in cohort.names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    at_once(lambda name: round_.add_upload(name, *uploads[name]))
    frozen = round_.freeze()
    signed = {name: cohort.clients[name].sign_freeze(frozen[name]) for name in cohort.names}
    at_once(lambda name: round_.add_signature(name, signed[name]))
    certificate = round_.certificate()
    revealed = {name: cohort.clients[name].reveal(certificate) for name in cohort.names}
    at_once(lambda name: round_.add_reveal(name, revealed[name]))
    assert failures == []
    assert_right(cohort, round_, cohort.names)


def test_a_secret_is_opened_with_as_many_wrong_shares_as_there_are_spare_ones():
    secret, random = bytes(range(32)), np.random.default_rng(1)
    shares = dict(enumerate(split(secret, 5, 9, Stream("shares"))))
    for wrong in range(5):
        held = dict(shares)
        liars = set(random.permutation(9)[:wrong].tolist())
        for liar in liars:
            held[liar] = b"\0" + random.bytes(32)
        assert reconstruct_checked(held, 5, secret.__eq__, site="a") == (secret, liars)
    held[min(set(range(9)) - liars)] = b"\0" + random.bytes(32)
    refused("E_BAD_SHARE", reconstruct_checked, held, 5, secret.__eq__, site="a")
    refused("E_RECOVERY_FAILED", reconstruct_checked, {1: b""}, 5, secret.__eq__, site="a")


def test_hostile_holders_cannot_buy_time():
    held = dict(enumerate(split(bytes(32), 21, 40, Stream("hostile"))))
    tried = []
    refused("E_BAD_SHARE", reconstruct_checked, held, 20, lambda secret: tried.append(secret), site="a")
    assert len(tried) == 1000


def test_the_clock_is_asked(early):
    late = Cohort(4, ready=False)
    late.server._now = lambda: NOW + 25 * 3600
    refused("E_STALE_ADVERT", late.server.add_advert, "site-00", early.clients["site-00"].advert())
