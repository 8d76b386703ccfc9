"""Whom the server waits for."""

from types import SimpleNamespace

import numpy as np
import pytest

from fl_jobs.aggregation import check_contribution
from fl_jobs.flare import wire
from fl_jobs.flare.answers import Answers
from fl_jobs.flare.presence import GONE_AFTER_S, STARTING_S, Presence
from fl_jobs.messages import Contribution, TaskOrder
from tests.fl_jobs.test_flare_outgoing import SPEC, W

ORDER = TaskOrder("train", 1)
TARGETS = {"a", "b", "c"}


def collect(silent=frozenset(), grace_s=5.0) -> Answers:
    def accept(site, result):
        contribution = wire.contribution_from_shareable(result, ORDER, SPEC.digest())
        check_contribution(site, ORDER.declared(SPEC), contribution)
        return contribution

    return Answers(TARGETS, SPEC.min_sites, accept, silent=silent, grace_s=grace_s)


@pytest.fixture
def answers() -> Answers:
    return collect()


def answer(answers: Answers, site: str, tensors=None) -> None:
    contribution = Contribution(W if tensors is None else tensors, {"samples": 3.0, "one": 1.0}, {"sums": {}})
    result = wire.contribution_to_shareable(contribution, ORDER, SPEC.digest())
    answers.receive(SimpleNamespace(client=SimpleNamespace(name=site), result=result), None)


def fetch(answers: Answers, site: str) -> None:
    answers.note_fetched(SimpleNamespace(client=SimpleNamespace(name=site)), None)


def test_all_answers_end_the_wait_at_once(answers):
    for site in TARGETS:
        assert not answers.are_enough(0.1)
        answer(answers, site)
    assert answers.are_enough(0.1)


def test_a_slow_site_gets_three_times_the_time_of_the_others_and_the_grace(answers):
    answer(answers, "a")
    answer(answers, "b")
    assert not answers.are_enough(10.0)
    assert not answers.are_enough(34.0)
    assert answers.are_enough(36.0)
    assert answers.close() == {"c"}


def test_too_few_answers_are_waited_for(answers):
    answer(answers, "a")
    assert not answers.are_enough(10_000.0)


def test_too_few_that_can_still_answer_end_the_wait(answers):
    assert not answers.cannot_suffice(gone=set())
    assert not answers.cannot_suffice(gone={"c"})
    assert answers.cannot_suffice(gone={"b", "c"})
    answer(answers, "a")
    answer(answers, "b")
    assert not answers.cannot_suffice(gone={"b", "c"})  # its answer is in


def test_a_site_is_gone_when_its_job_process_is_silent_although_its_client_came_back():
    now = [0.0]
    told = []
    communicator = SimpleNamespace(client_is_active=lambda *words: told.append(words))
    presence = Presence(clock=lambda: now[0])
    presence.watch(communicator)
    communicator.client_is_active("a", "jobHeartbeat", None)
    assert told == [("a", "jobHeartbeat", None)]  # NVFlare still hears it
    communicator.client_is_active("c", "syncRunner", None)
    now[0] = GONE_AFTER_S + 1
    communicator.client_is_active("b", "getTask", None)
    assert presence.gone(TARGETS) == {"a"}  # c has connected and is still loading
    now[0] = STARTING_S + 1
    assert presence.gone(TARGETS) == TARGETS


def test_a_site_that_missed_the_last_order_does_not_hold_up_the_others():
    answers = collect(silent={"c"})
    answer(answers, "a")
    answer(answers, "b")
    assert answers.are_enough(0.1)


def test_a_site_that_missed_the_last_order_is_waited_for_once_it_fetches_this_one():
    answers = collect(silent={"c"})
    fetch(answers, "c")
    answer(answers, "a")
    answer(answers, "b")
    assert not answers.are_enough(0.1)


def test_an_unusable_contribution_is_that_sites_refusal_only(answers):
    answer(answers, "a", {"global/w": np.ones((1, 1), np.float32)})
    answer(answers, "b")
    answer(answers, "c")
    assert set(answers.accepted) == {"b", "c"}
    assert "Site a sent" in answers.refusals["a"]
    assert answers.are_enough(0.1)


def test_a_refusal_counts_as_an_answer(answers):
    task = SimpleNamespace(client=SimpleNamespace(name="a"), result=wire.refusal("No data here."))
    answers.receive(task, None)
    answer(answers, "b")
    answer(answers, "c")
    assert answers.are_enough(0.1)
    assert answers.refusals == {"a": "No data here."}


def test_without_grace_enough_is_enough():
    answers = collect(grace_s=0.0)
    answer(answers, "a")
    assert not answers.are_enough(0.1)
    answer(answers, "b")
    assert answers.are_enough(0.1)


def test_a_refusal_of_the_protocol_keeps_its_code(answers):
    reply = wire.refusal("Nothing left.", "E_PLAN")
    answers.receive(SimpleNamespace(client=SimpleNamespace(name="a"), result=reply), None)
    assert answers.codes == {"a": "E_PLAN"}


def test_a_stranger_and_a_second_answer_do_not_count(answers):
    answer(answers, "mallory")
    answer(answers, "a")
    answer(answers, "a", {"global/w": np.zeros((2, 3), np.float32)})
    assert set(answers.accepted) == {"a"}
    assert answers.accepted["a"].tensors["global/w"].any()


def test_an_answer_after_the_round_was_closed_changes_nothing(answers):
    answer(answers, "a")
    answers.close()
    answer(answers, "b")
    assert set(answers.accepted) == {"a"}
