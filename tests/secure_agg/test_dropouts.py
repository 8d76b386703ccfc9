"""Every way in which sites can be lost, at every step: the right sum, or nothing at all."""

import itertools

import numpy as np
import pytest

from secure_agg.errors import SecureAggregationError
from secure_agg.keys import digest
from secure_agg.thresholds import colluding_default, threshold
from tests.secure_agg.cohort import MODEL_HASH, Cohort, plan_of

STEPS = ("upload", "freeze", "reveal", "recover")


def play(cohort, lost, number=1, plan=None, model=MODEL_HASH):
    """One round in which ``lost[step]`` are gone from that step on. Returns the server's round."""
    gone = set()
    round_ = cohort.begin(number, plan=plan, hash_=model)

    def here(names, step):
        gone.update(lost.get(step, ()))
        return [name for name in names if name not in gone]

    for name in here(cohort.names, "upload"):
        round_.add_upload(name, *cohort.upload(name))
    frozen = round_.freeze()
    for name in here(frozen, "freeze"):
        round_.add_signature(name, cohort.clients[name].sign_freeze(frozen[name]))
    certificate = round_.certificate()
    for name in here(round_.signed, "reveal"):
        round_.add_reveal(name, cohort.clients[name].reveal(certificate))
    if round_.silent:
        request = round_.recover_request()
        helpers = set(cohort.names) - set(round_.silent)
        for name in here(sorted(helpers & set(round_.uploaded)), "recover"):
            round_.add_recovery(name, cohort.clients[name].recover(request))
    return round_


def assert_right(cohort, round_, survivors):
    aggregate = round_.unmask()
    total, weight = cohort.sum_of(survivors)
    assert (aggregate.participants, aggregate.weight) == (len(survivors), weight)
    assert np.abs(aggregate.sums()["w"] - total).max() < 1e-6
    assert aggregate.statistics["loss"] == 0.5 * len(survivors)


def splits(most):
    """How many are lost at upload, freeze, reveal and recovery, ``most`` in all."""
    for split in itertools.product(range(most + 1), repeat=4):
        if sum(split) <= most:
            yield split


@pytest.mark.parametrize("ring", [32, 64])
@pytest.mark.parametrize("count", [3, 4, 5, 6, 9, 10])
def test_up_to_n_minus_t_lost_at_any_steps_leave_the_right_sum(count, ring):
    cohort = Cohort(count)
    needed = threshold(count, colluding_default(count), 3)
    for number, split in enumerate(splits(count - needed), start=1):
        order = np.random.default_rng(number).permutation(cohort.names).tolist()
        lost, at = {}, 0
        for step, many in zip(STEPS, split, strict=True):
            lost[step], at = order[at : at + many], at + many
        if split[3] and not split[1] + split[2]:
            continue  # nobody is silent, so nobody is asked for shares
        model = digest("model", bytes([number]))  # another model: the same one is not trained twice
        plan = plan_of(count, ring=ring, context=model)
        survivors = [name for name in cohort.names if name not in lost["upload"]]
        round_ = play(cohort, lost, number, plan, model)
        assert_right(cohort, round_, survivors)
        assert set(round_.recovered) == set(lost["freeze"]) | set(lost["reveal"])


@pytest.mark.parametrize("count", [20, 50])
def test_larger_cohorts_with_random_losses(count):
    cohort = Cohort(count)
    needed = threshold(count, colluding_default(count), 3)
    order = np.random.default_rng(count).permutation(cohort.names).tolist()
    spare = count - needed
    half = spare // 2
    lost = {"upload": order[:half], "freeze": order[half : spare - 1], "reveal": order[spare - 1 : spare]}
    round_ = play(cohort, lost)
    assert_right(cohort, round_, [name for name in cohort.names if name not in lost["upload"]])


@pytest.mark.parametrize("count", [3, 4, 6, 10])
@pytest.mark.parametrize(
    ("step", "code"),
    [("upload", "E_COHORT_TOO_SMALL"), ("freeze", "E_NO_QUORUM"), ("reveal", "E_RECOVERY_FAILED")],
)
def test_one_loss_too_many_ends_the_round_and_nothing_comes_out_that_it_should_not(count, step, code, watch):
    cohort = Cohort(count)
    oracle = watch(cohort.names)
    needed = threshold(count, colluding_default(count), 3)
    lost = {step: cohort.names[: count - needed + 1]}
    with pytest.raises(SecureAggregationError) as refused:
        play(cohort, lost)
    assert refused.value.code == code
    assert refused.value.facts["need"] == needed
    if step == "reveal":  # the others gave what belongs to the one list of survivors
        oracle.assert_only(survivors=set(cohort.names) - set(lost[step]))
    else:
        oracle.nothing()


def test_too_few_helpers_end_the_round():
    cohort = Cohort(6)
    with pytest.raises(SecureAggregationError) as refused:
        play(cohort, {"reveal": ["site-00"], "recover": ["site-01", "site-02"]}).unmask()
    assert (refused.value.code, refused.value.facts["site"]) == ("E_RECOVERY_FAILED", "site-00")


def test_a_straggler_of_the_upload_stays_hidden(watch):
    cohort = Cohort(4)
    oracle = watch(cohort.names)
    round_ = cohort.begin(1)
    late = cohort.upload("site-03")
    for name in cohort.names[:3]:
        round_.add_upload(name, *cohort.upload(name))
    frozen = round_.freeze()
    with pytest.raises(SecureAggregationError) as refused:
        round_.add_upload("site-03", *late)
    assert refused.value.code == "E_TIMEOUT"
    for name, message in frozen.items():
        round_.add_signature(name, cohort.clients[name].sign_freeze(message))
    for name in round_.signed:
        round_.add_reveal(name, cohort.clients[name].reveal(round_.certificate()))
    assert_right(cohort, round_, cohort.names[:3])
    oracle.assert_only(cohort.names[:3], ["site-03"])
    assert ("b", round_._context, "site-03") not in oracle.released()


def test_a_sampled_cohort_keeps_the_rosters_number_of_colluders():
    cohort = Cohort(10)
    users = cohort.names[2:9]
    plan = plan_of(10)
    round_ = cohort.begin(1, users=users, plan=plan)
    assert round_.threshold == (7 + 3) // 2 + 1
    for name in users[:-1]:
        round_.add_upload(name, *cohort.upload(name))
    for name, message in round_.freeze().items():
        round_.add_signature(name, cohort.clients[name].sign_freeze(message))
    certificate = round_.certificate()
    for name in users[1:-1]:
        round_.add_reveal(name, cohort.clients[name].reveal(certificate))
    with pytest.raises(SecureAggregationError) as refused:
        round_.recover_request()
    assert refused.value.code == "E_RECOVERY_FAILED"
    round_.add_reveal(users[0], cohort.clients[users[0]].reveal(certificate))
    assert_right(cohort, round_, users[:-1])
