"""Differencing over all jobs of a site: what is refused, what is allowed, what is the same question."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from secure_agg import ledger as module
from secure_agg.errors import SecureAggregationError
from secure_agg.ledger import Ledger, open_ledger, query_id, seal_ledger
from secure_agg.model_hash import model_hash
from secure_agg.plan import Purpose, TensorField, Weighting
from tests.secure_agg.cohort import plan_of

Q, OTHER = b"q" * 32, b"o" * 32


def refused(ledger, query, cohort, least=3):
    before = ledger.encode()
    with pytest.raises(SecureAggregationError) as error:
        ledger.check_and_note(query, cohort, least)
    assert error.value.code == "E_DIFFERENCING"
    assert ledger.encode() == before
    return error.value.facts


def test_the_same_question_for_the_same_sites_is_answered_again():
    ledger = Ledger()
    for cohort in ("abcd", "dcba", "abcd"):
        ledger.check_and_note(Q, cohort, 3)
    assert len(ledger) == 1


@pytest.mark.parametrize(
    ("later", "isolated", "missing"),
    [
        ("abc", 1, "d"),
        ("abcde", 1, "the same sites"),
        ("abce", 1, "d"),
        ("ab", 2, "c, d"),
        ("abefghi", 2, "c, d"),
    ],
)
def test_another_cohort_that_isolates_fewer_than_allowed_is_refused(later, isolated, missing):
    ledger = Ledger()
    ledger.check_and_note(Q, "abcd", 3)
    facts = refused(ledger, Q, later)
    assert (facts["have"], facts["need"], facts["missing"]) == (isolated, 3, missing)
    assert facts["cohort"] == "a, b, c, d"
    ledger.check_and_note(OTHER, later, 3)


def test_cohorts_far_enough_apart_are_answered_and_all_of_them_count_later():
    ledger = Ledger()
    ledger.check_and_note(Q, "abcd", 3)
    ledger.check_and_note(Q, "efgh", 3)
    ledger.check_and_note(Q, "abcdxyz", 3)
    assert refused(ledger, Q, "efghi")["cohort"] == "e, f, g, h"
    assert refused(ledger, Q, "abcdx", 3)["have"] in (1, 2)


def test_no_pair_of_answered_cohorts_isolates_fewer_than_three_whatever_is_asked():
    ledger, answered = Ledger(), []
    sites = "abcdefg"
    for size in range(3, 8):
        for cohort in itertools.combinations(sites, size):
            try:
                ledger.check_and_note(Q, cohort, 3)
            except SecureAggregationError:
                continue
            answered.append(set(cohort))
    assert len(answered) > 1
    for one, two in itertools.combinations(answered, 2):
        assert len(one - two) not in (1, 2)
        assert len(two - one) not in (1, 2)


def test_a_ledger_is_what_was_sealed():
    ledger = Ledger()
    for number in range(40):
        ledger.check_and_note(bytes([number]) * 32, ["a", "b", f"c{number % 3}"], 3)
    ledger.mark(b"j" * 32, 7)
    again = open_ledger(b"k" * 32, seal_ledger(b"k" * 32, ledger))
    assert again.encode() == ledger.encode()
    assert len(again) == 40
    assert (again.marked(b"j" * 32), again.marked(b"x" * 32)) == (7, 0)
    assert len(open_ledger(b"k" * 32, None)) == 0


def test_the_oldest_entries_and_marks_go_first(monkeypatch):
    monkeypatch.setattr(module, "ENTRIES_MAX", 3)
    monkeypatch.setattr(module, "MARKS_MAX", 2)
    ledger = Ledger()
    for number in range(5):
        ledger.check_and_note(bytes([number]) * 32, "abc", 3)
        ledger.mark(bytes([number]) * 32, number + 1)
    ledger.mark(bytes([3]) * 32, 9)
    assert (len(ledger), ledger.marked(bytes([2]) * 32), ledger.marked(bytes([3]) * 32)) == (3, 0, 9)
    ledger.mark(b"n" * 32, 1)
    assert ledger.marked(bytes([4]) * 32) == 0  # 3 was marked later
    ledger.check_and_note(bytes([0]) * 32, "ab", 3)  # forgotten
    refused(ledger, bytes([4]) * 32, "ab")


def test_twenty_thousand_entries_fit():
    assert module.ENTRIES_MAX >= 20_000
    ledger = Ledger()
    for number in range(module.ENTRIES_MAX):
        ledger._entries[number.to_bytes(32, "little"), ("a", "b", f"c{number % 7}")] = None
    sealed = seal_ledger(b"k" * 32, ledger)
    assert len(sealed) < 800_000
    assert len(open_ledger(b"k" * 32, sealed)) == module.ENTRIES_MAX


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"x" + data[1:],
        lambda data: data + b"\0",
        lambda data: data[:-1],
        lambda data: data.replace(Q + b"\0\0", Q + b"\1\0"),  # a cohort that is not listed
    ],
)
def test_a_ledger_is_decoded_strictly(damage):
    ledger = Ledger()
    ledger.check_and_note(Q, "abc", 3)
    with pytest.raises(SecureAggregationError, match="malformed"):
        Ledger.decode(damage(ledger.encode()))


def test_a_record_cut_in_two_is_refused():
    ledger = Ledger()
    ledger.check_and_note(Q, "abc", 3)
    data = ledger.encode()
    at = data.index(Q) - 4
    for length in (33, 35, 1):
        records = (Q + b"\0\0" + Q)[:length]
        cut = data[:at] + length.to_bytes(4, "little") + records + data[at + 4 + 34 :]
        with pytest.raises(SecureAggregationError, match="malformed"):
            Ledger.decode(cut)


PLAN = plan_of(4, statistics=["a", "b"])


@pytest.mark.parametrize(
    "change",
    [
        {"ring": 32},
        {"weight_max": 2048},
        {"colluding": 2},
        {"cohort_min": 4},
        {"site_count": 5},
        {"freeze_s": 7},
        {"reveal_s": 7},
        {"recover_s": 7},
        {"fields": (replace(PLAN.fields[0], log2_clip=9),)},
    ],
)
def test_what_does_not_change_the_question_does_not_change_its_name(change):
    assert query_id(replace(PLAN, **change), b"m" * 32, b"v") == query_id(PLAN, b"m" * 32, b"v")


def test_what_changes_the_question_changes_its_name():
    base = PLAN.fields[0]
    changes = [
        {"purpose": Purpose.STATISTIC},
        {"context": b"x" * 32},
        {"statistics": ("a",)},
        {"statistics": ("ab",)},
        {"fields": ()},
        {"fields": (replace(base, name="v"),)},
        {"fields": (replace(base, shape=(3, 1)),)},
        {"fields": (replace(base, dtype="float64"),)},
        {"fields": (replace(base, weighting=Weighting.SUM),)},
        {"fields": (base, TensorField("z", "float32", (), Weighting.MEAN, 0))},
    ]
    names = {query_id(replace(PLAN, **change), b"m" * 32, b"v") for change in changes}
    names |= {
        query_id(PLAN, b"m" * 32, b"v"),
        query_id(PLAN, b"n" * 32, b"v"),
        query_id(PLAN, b"m" * 32, b"w"),
    }
    assert len(names) == len(changes) + 3


def test_a_model_is_its_names_types_shapes_and_bytes():
    base = np.arange(6, dtype=np.float32)
    models = [
        {"a": base},
        {"b": base},
        {"a": base.reshape(2, 3)},
        {"a": base.view(np.int32)},
        {"a": base + 1},
        {"a": base, "b": base},
        {"a": base[:0]},
        {"a": np.float32(0).reshape(())},
        {},
    ]
    hashes = [model_hash(model) for model in models]
    assert len(set(hashes)) == len(models)
    same = [
        {"a": np.stack([base, base], axis=1)[:, 0]},
        {"a": base.astype(">f4")},
    ]
    assert {model_hash(model) for model in same} == {hashes[0]}
    assert model_hash({"b": base, "a": base}) == model_hash({"a": base, "b": base})


@pytest.mark.parametrize("dtype", ["complex64", "U3", "O", "M8[s]"])
def test_what_has_no_bytes_of_its_own_has_no_hash(dtype):
    with pytest.raises(SecureAggregationError) as refused_:
        model_hash({"a": np.zeros(2, dtype)})
    assert refused_.value.code == "E_UNSUPPORTED_DTYPE"
