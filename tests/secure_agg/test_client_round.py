"""What the machine of a round refuses by itself, whoever calls it."""

import pytest

from secure_agg import messages
from secure_agg.client_round import ClientRound
from secure_agg.errors import SecureAggregationError
from tests.secure_agg.cohort import Cohort, name_of, plan_of
from tests.secure_agg.hostile import Hostile

A, B, C, D = NAMES = tuple(name_of(index) for index in range(4))


def test_nothing_is_revealed_by_a_round_that_signed_nothing(cohort):
    cohort.begin(1)
    round_: ClientRound = cohort.clients[A]._round
    for call in (round_.reveal, lambda: round_.check_certificate(messages.Cert(()))):
        with pytest.raises(SecureAggregationError) as refused:
            call()
        assert refused.value.code == "E_NOT_FROZEN"


def test_bundles_that_the_server_keeps_back_are_complained_of(cohort):
    hostile = Hostile(cohort).run_to_upload()
    bundles = dict(hostile.uploads[B].bundles)
    answer = hostile.sign(A, hostile.freeze(NAMES, A, bundles={1: bundles[0]}))
    assert answer.complaints == (2, 3)
    signed = hostile.sign_all(NAMES, by=(B, C))
    hostile.reveal(A, signed)
    assert [site for site, _ in hostile.recover(A, signed, (B, D)).shares] == [1]


def test_cohorts_of_one_question_differ_by_two_honest_sites():
    """Of ten sites three may collude: the difference of two sums by three sites could hold one honest one."""
    cohort = Cohort(10)
    hostile = Hostile(cohort).run_to_upload()
    hostile.sign_all(cohort.names)
    plan = plan_of(10, freeze_s=7)  # the same question
    again = Cohort(10, epoch=2, ready=False)
    again.vaults = cohort.vaults
    again.clients = {name: again.client(name) for name in again.names}
    again.set_up()
    later = Hostile(again).run_to_upload(hostile.start(plan=plan))
    survivors = cohort.names[:7]
    with pytest.raises(SecureAggregationError) as refused:
        again.clients[A].sign_freeze(later.freeze(survivors, A))
    assert (refused.value.code, refused.value.facts["have"]) == ("E_DIFFERENCING", 3)
    assert refused.value.facts["need"] == 5
