"""Thresholds, shares, plans, errors: what everything else stands on."""

import os
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_agg import shamir
from secure_agg.errors import CODES, SENTENCES, SecureAggregationError
from secure_agg.plan import Plan, Purpose, TensorField, Weighting, make_plan
from secure_agg.thresholds import MOST_SITES, colluding_default, threshold

EXAMPLES = int(os.environ.get("CONSILIUM_SECAGG_N", "2000")) // 20


def code_of(call, *arguments) -> str:
    with pytest.raises(SecureAggregationError) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize(
    ("count", "colluding", "cohort_min", "code"),
    [
        (2, 0, 3, "E_COHORT_TOO_SMALL"),
        (4, 4, 3, "E_COHORT_TOO_SMALL"),
        (5, 1, 2, "E_PLAN"),
        (5, 1, MOST_SITES + 1, "E_PLAN"),
        (5, -1, 3, "E_PLAN"),
        (3, 2, 3, "E_PLAN"),
    ],
)
def test_no_threshold_for_what_hides_too_little(count, colluding, cohort_min, code):
    assert code_of(threshold, count, colluding, cohort_min) == code


def test_two_certificates_always_share_an_honest_signer():
    for count in range(3, 120):
        for colluding in range(colluding_default(count) + 1):
            assert 2 * threshold(count, colluding, 3) - count > colluding
    assert [colluding_default(count) for count in (0, 1, 3)] == [0, 0, 0]


@settings(max_examples=EXAMPLES, deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), count=st.integers(1, 9), data=st.data())
def test_any_t_shares_give_the_secret_and_fewer_do_not(secret, count, data):
    needed = data.draw(st.integers(1, count))
    shares = dict(enumerate(shamir.split(secret, needed, count, os.urandom), start=1))
    holders = data.draw(st.permutations(sorted(shares)))
    assert shamir.reconstruct({x: shares[x] for x in holders[:needed]}) == secret
    assert shamir.reconstruct(shares) == secret
    if needed > 1:
        assert shamir.split(secret, needed, count, os.urandom) != list(shares.values())


def test_fewer_shares_than_t_tell_nothing(monkeypatch):
    """Over a small field, all polynomials: two shares of three leave every secret equally likely."""
    monkeypatch.setattr(shamir, "PRIME", 11)
    for seen in combinations(range(1, 5), 2):
        counts: dict[tuple[int, ...], set[int]] = {}
        for secret in range(11):
            for drawn in range(121):
                values = [shamir._value_at([secret, drawn % 11, drawn // 11], x) for x in seen]
                counts.setdefault(tuple(values), set()).add(secret)
        assert all(secrets == set(range(11)) for secrets in counts.values())
        assert len(counts) == 121


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {0: bytes(33)},
        {1: bytes(33), MOST_SITES + 1: bytes(33)},
        {1: bytes(32)},
        {1: bytes(34)},
        {1: b"\xff" * 33},
        {1: shamir.PRIME.to_bytes(33, "big")},
        {1: (shamir.PRIME - 1).to_bytes(33, "big")},  # beyond 32 bytes
    ],
    ids=lambda shares: str(len(shares)),
)
def test_a_malformed_share_is_refused(shares):
    assert code_of(shamir.reconstruct, shares) == "E_BAD_SHARE"


@pytest.mark.parametrize(("size", "needed", "count"), [(31, 2, 3), (32, 0, 3), (32, 4, 3), (32, 2, 1001)])
def test_what_cannot_be_shared_is_a_fault_of_the_caller(size, needed, count):
    with pytest.raises(ValueError, match="cannot share"):
        shamir.split(bytes(size), needed, count, os.urandom)


def field_of(name="w", dtype="float32", shape=(2, 3), weighting=Weighting.MEAN, clip=0) -> TensorField:
    return TensorField(name, dtype, shape, weighting, clip)


PLAN = make_plan(
    fields=[
        field_of("z"), field_of("a", "float16", ()), field_of("m", "float64", (0, 4), Weighting.EACH, -3),
    ],
    statistics=["loss", "accuracy"], purpose=Purpose.TRAIN, ring=32, weight_max=4096, colluding=1,
    cohort_min=3, site_count=4, context=bytes(range(32)),
)  # fmt: skip


def test_a_plan_is_sorted_and_comes_back_from_its_bytes():
    PLAN.validate()
    assert [each.name for each in PLAN.fields] == ["a", "m", "z"]
    assert PLAN.statistics == ("accuracy", "loss")
    assert Plan.decode(PLAN.encode()) == PLAN
    assert (PLAN.main_bytes, PLAN.statistics_offset, PLAN.vector_bytes) == (28, 32, 32 + 8 * 6)
    assert replace(PLAN, ring=64).main_bytes == 56
    assert (
        Plan.decode(replace(PLAN, purpose=Purpose.STATISTIC, fields=(), statistics=()).encode()).fields == ()
    )


def test_binary_places_leave_room_for_the_sum():
    for clip in range(-8, 9):
        assert PLAN.fraction_bits(field_of(clip=clip)) == 31 - clip - 2 - 1
    wide = replace(PLAN, ring=64)
    assert [wide.fraction_bits(field_of(clip=clip)) for clip in (-9, 0, 20, 30)] == [40, 40, 28, 18]
    assert replace(wide, fields=(field_of("n", "int64", (), Weighting.SUM, 60),)).fraction_bits(
        field_of("n", "int64")
    ) == (0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ring": 48}, "E_PLAN"),
        ({"weight_max": 0}, "E_PLAN"),
        ({"weight_max": 2**31 + 1}, "E_PLAN"),
        ({"site_count": 2}, "E_COHORT_TOO_SMALL"),
        ({"site_count": 1001}, "E_PLAN"),
        ({"cohort_min": 2}, "E_PLAN"),
        ({"freeze_s": 0}, "E_PLAN"),
        ({"recover_s": 7 * 24 * 3600 + 1}, "E_PLAN"),
        ({"fields": (field_of(clip=63),)}, "E_PLAN"),
        ({"fields": (field_of(clip=-65),)}, "E_PLAN"),
        ({"fields": (field_of(clip=29),)}, "E_OVERFLOW_BUDGET"),
        ({"fields": (field_of(clip=53),), "ring": 64, "weight_max": 1}, "E_OVERFLOW_BUDGET"),
        ({"fields": (field_of(dtype="int64", weighting=Weighting.SUM),)}, "E_UNSUPPORTED_DTYPE"),
        ({"fields": (field_of(dtype="int64"),), "ring": 64}, "E_PLAN"),
        ({"fields": (field_of(dtype="complex64"),)}, "E_UNSUPPORTED_DTYPE"),
    ],
)
def test_a_plan_beyond_its_limits_is_refused(changes, code):
    assert code_of(replace(PLAN, **changes).validate) == code


def test_the_budget_is_refused_at_one_bit_too_many():
    replace(PLAN, fields=(field_of(clip=28),)).validate()
    whole = field_of(dtype="int64", weighting=Weighting.SUM, clip=60)
    replace(PLAN, ring=64, fields=(whole,)).validate()
    too_many = replace(PLAN, ring=64, fields=(replace(whole, log2_clip=61),))
    assert code_of(too_many.validate) == "E_OVERFLOW_BUDGET"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"fields": (field_of("b"), field_of("a"))}, "E_DECODE"),
        ({"fields": (field_of("a"), field_of("a"))}, "E_DECODE"),
        ({"fields": (field_of("a", shape=(2**34,)),)}, "E_DECODE"),
        ({"fields": (field_of("a", shape=(2**34, 0)),)}, "E_DECODE"),
        ({"fields": (field_of("a", shape=(2**32, 4)),)}, "E_DECODE"),
        ({"fields": (field_of("a", shape=(1,) * 17),)}, "E_DECODE"),
        ({"fields": (field_of("a", dtype="bool"),)}, "E_UNSUPPORTED_DTYPE"),
        ({"fields": (field_of("ä"),)}, "E_DECODE"),
        ({"statistics": ("b", "a")}, "E_DECODE"),
        ({"context": bytes(31)}, "E_DECODE"),
        ({"weight_max": -1}, "E_DECODE"),
    ],
)
def test_a_plan_that_no_site_would_read_is_not_written(changes, code):
    assert code_of(replace(PLAN, **changes).encode) == code


def test_every_error_is_a_sentence_that_needs_no_facts():
    assert list(CODES.values()) == list(range(1, len(SENTENCES) + 1))
    for code in SENTENCES:
        text = str(SecureAggregationError(code))
        assert "{" not in text
        assert text.endswith(".")
    error = SecureAggregationError("E_NO_QUORUM", have=2)
    assert "Only 2 of ? sites" in str(error)
    assert "Only 2 of 3 sites" in str(error.about(need=3))
    assert (error.about(need=3).facts, error.code) == ({"have": 2, "need": 3}, "E_NO_QUORUM")
    assert str(SecureAggregationError("E_UNKNOWN")) == "E_UNKNOWN"
