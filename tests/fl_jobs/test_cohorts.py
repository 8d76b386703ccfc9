"""The server asks a question again only for the sites whose sum was already going to be signed."""

import dataclasses

import pytest

from fl_jobs.errors import ModelFileError, RunInterruptedError, StaleEpochError
from fl_jobs.flare.cohorts import FROZEN, Cohorts
from fl_jobs.flare.journal import RunFolder
from secure_agg.plan import Plan, Purpose

MODEL = bytes(32)
FIVE = ["a", "b", "c", "d", "e"]


def plan(context: bytes = b"1" * 32) -> Plan:
    return Plan(
        purpose=Purpose.STATISTIC, ring=64, weight_max=1024, colluding=1, cohort_min=3, site_count=5,
        fields=(), statistics=("n",), context=context, freeze_s=60, reveal_s=60, recover_s=60,
    )  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    kept = RunFolder(tmp_path, epoch=1)
    yield kept
    kept.close()


def test_a_new_question_is_asked_of_everybody(kept):
    assert Cohorts(kept).users(plan(), MODEL, FIVE) == FIVE


def test_after_a_crash_the_site_that_was_out_stays_out_of_this_order_alone(kept, tmp_path):
    Cohorts(kept).note(plan(), MODEL, ["a", "b", "c", "d"])
    resumed = Cohorts(RunFolder(tmp_path, epoch=2))
    assert resumed.users(plan(), MODEL, FIVE) == ["a", "b", "c", "d"]
    assert resumed.users(plan(b"2" * 32), MODEL, FIVE) == FIVE
    assert resumed.users(plan(), b"2" * 32, FIVE) == FIVE


def test_a_missing_one_of_them_is_waited_for(kept):
    cohorts = Cohorts(kept)
    cohorts.note(plan(), MODEL, ["a", "b", "c", "d"])
    for ask in (cohorts.users, cohorts.note):
        with pytest.raises(RunInterruptedError) as caught:
            ask(plan(), MODEL, ["a", "b", "c"])
        assert (caught.value.code, caught.value.missing) == ("E_DIFFERENCING", ["d"])
    cohorts.note(plan(), MODEL, ["d", "c", "b", "a"])


def test_cohorts_far_enough_apart_are_both_kept(kept):
    cohorts, eight = Cohorts(kept), list("abcdefgh")
    cohorts.note(plan(), MODEL, FIVE)
    assert cohorts.users(plan(), MODEL, eight) == eight
    cohorts.note(plan(), MODEL, eight)
    with pytest.raises(RunInterruptedError):
        cohorts.note(plan(), MODEL, eight[:-1])


def test_the_next_question_takes_the_place_of_the_last(kept):
    cohorts = Cohorts(kept)
    cohorts.note(plan(), MODEL, FIVE[:4])
    cohorts.note(plan(b"2" * 32), MODEL, FIVE[:3])
    assert cohorts.users(plan(b"2" * 32), MODEL, FIVE) == FIVE[:3]
    assert cohorts.users(plan(), MODEL, FIVE) == FIVE


def test_a_server_thought_dead_notes_nothing(kept, tmp_path):
    RunFolder(tmp_path, epoch=2).close()
    with pytest.raises(StaleEpochError):
        Cohorts(kept).note(plan(), MODEL, FIVE)
    assert not (tmp_path / FROZEN).exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"question": "x"'])
def test_an_unreadable_note_is_not_taken_for_none(kept, tmp_path, content):
    (tmp_path / FROZEN).write_text(content)
    with pytest.raises(ModelFileError, match="Move it away"):
        Cohorts(kept).users(plan(), MODEL, FIVE)


def test_more_colluders_ask_for_cohorts_further_apart(kept):
    """As the sites count it (client_round.apart_min): all but one of three new sites could be colluders."""
    ten = list("abcdefghij")
    wide = dataclasses.replace(plan(), colluding=3, site_count=10)
    Cohorts(kept).note(wide, MODEL, ten[:7])
    assert Cohorts(kept).users(wide, MODEL, ten) == ten[:7]
