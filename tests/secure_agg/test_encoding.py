"""Numbers in, masked vectors, sums out: against exact whole numbers and against the float64 mean."""

from fractions import Fraction

import numpy as np
import pytest

from secure_agg import encoding
from secure_agg.encoding import Accumulator, encode_masked
from secure_agg.errors import SecureAggregationError
from secure_agg.masks import CHUNK_BYTES
from secure_agg.plan import TensorField
from tests.secure_agg import second
from tests.secure_agg.sites import EACH, MEAN, SUM, aggregate, one, pair_masks, plan_of, seed


def refused(plan, tensors, weight=1, statistics=None) -> SecureAggregationError:
    with pytest.raises(SecureAggregationError) as caught:
        encode_masked(plan, tensors, weight, statistics or {}, [])
    return caught.value


@pytest.mark.parametrize("ring", [32, 64])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (5, 7), (2, 0, 3), (70_001,)])
def test_mean_is_the_float64_mean_within_the_bound(ring, dtype, shape):
    item, numbers = one(dtype, shape), np.random.default_rng(3)
    plan, weights = plan_of(item, ring=ring), [1024, 700, 333]
    inputs = [{"x": numbers.uniform(-1, 1, shape).astype(dtype)} for _ in weights]
    found = aggregate(plan, inputs, weights)
    expected = sum(w * x["x"].astype(np.float64) for w, x in zip(weights, inputs, strict=True)) / sum(weights)
    bound = 2.0 ** -(plan.fraction_bits(item) + 1)
    if ring == 32:
        bound *= len(weights) * plan.weight_max / sum(weights)
    mean = found.means()["x"]
    assert (mean.dtype, mean.shape) == (np.dtype(dtype), shape)
    cast = np.finfo(dtype).eps * (1 if dtype == "float16" else 0.5)
    assert np.all(np.abs(mean.astype(np.float64) - expected) <= bound + cast)
    assert np.all(np.abs(found.sums()["x"] / sum(weights) - expected) <= bound + 2.0**-50)
    assert (found.participants, found.weight, found.clipped) == (3, sum(weights), 0)


@pytest.mark.parametrize("ring", [32, 64])
def test_sum_in_the_ring_is_exact(ring):
    item, numbers = one("float32", (1003,)), np.random.default_rng(4)
    plan, weights = plan_of(item, ring=ring), [3, 1024, 511, 8]
    inputs = [{"x": numbers.normal(0, 0.7, 1003).astype(np.float32)} for _ in weights]
    found, places = aggregate(plan, inputs, weights), plan.fraction_bits(item)
    shares = [w if ring == 64 else Fraction(w, 1024) for w in weights]
    expected = [
        sum(
            second.encode(float(x["x"][i]), ring, places, 0, share)[0]
            for x, share in zip(inputs, shares, strict=True)
        )
        for i in range(1003)
    ]
    assert found.main.view(f"<u{ring // 8}")[:1003].tolist() == [word % 2**ring for word in expected]
    assert found.clipped == sum(int(np.count_nonzero(np.abs(x["x"]) > 1)) for x in inputs) > 0
    norm2 = sum(float(np.sum(np.clip(x["x"].astype(np.float64), -1, 1) ** 2)) for x in inputs)
    assert found.norm2 == pytest.approx(norm2, rel=1e-6)


def test_float32_is_scaled_in_float64():
    """NEP 50: float32 times a Python float would be rounded to 24 bits before it is widened."""
    value = np.float32(1 / 3)
    plan = plan_of(one("float32", (1,)))
    places = plan.fraction_bits(plan.fields[0])
    found = aggregate(plan, [{"x": np.array([value])}] * 3, [1000] * 3)
    assert found.main[0] == 3000 * round(Fraction(float(value)) * 2**places)
    ring32 = plan_of(one("float32", (1,)), ring=32, weight_max=1000)
    word = encode_masked(ring32, {"x": np.array([value])}, 777, {}, [])[:4].view("<i4")[0]
    assert word == round(Fraction(float(value)) * 2**28 * Fraction(777, 1000))


@pytest.mark.parametrize(
    "lay_out",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),  # read-only
        lambda x: x.astype(x.dtype.newbyteorder(">")),
    ],
    ids=["fortran", "strided", "reversed", "read-only", "big-endian"],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_layout_in_memory_changes_nothing(lay_out, dtype):
    weighting = SUM if dtype == "int64" else MEAN
    plan = plan_of(one(dtype, (5, 7), weighting, 8))
    tensor = np.arange(-17, 18).reshape(5, 7).astype(dtype)
    changed = lay_out(tensor)
    before = changed.tobytes()
    expected = encode_masked(plan, {"x": tensor}, 5, {}, pair_masks(0, 3))
    assert np.array_equal(encode_masked(plan, {"x": changed}, 5, {}, pair_masks(0, 3)), expected)
    assert changed.tobytes() == before


def test_each_and_sum_do_not_weigh():
    for ring in (32, 64):
        plan = plan_of(
            TensorField("each", "float32", (2,), EACH, 2),
            TensorField("sum", "float64", (2,), SUM, 4),
            ring=ring,
        )
        inputs = [{"each": np.full(2, i, np.float32), "sum": np.array([i, -0.5 * i])} for i in range(3)]
        found = aggregate(plan, inputs, [1, 1000, 24])
        assert found.means()["each"].tolist() == [1, 1]
        assert found.sums()["each"].tolist() == [3, 3]
        assert found.means()["sum"].tolist() == found.sums()["sum"].tolist() == [3, -1.5]


def test_whole_numbers_are_summed_exactly_and_clipped():
    plan = plan_of(one("int64", (3,), SUM, 60))
    inputs = [{"x": np.array([2**60 - 1, -5, 7])}, {"x": np.array([0, -6, np.iinfo(np.int64).max])}]
    found = aggregate(plan, inputs, [1, 1])
    assert found.means()["x"].tolist() == [2**60 - 1, -11, 7 + 2**60]
    assert found.means()["x"].dtype == np.int64
    assert (found.clipped, found.norm2) == (1, 0.0)
    low = aggregate(plan, [{"x": np.full(3, np.iinfo(np.int64).min)}] * 3, [1] * 3)
    assert low.means()["x"].tolist() == [-3 * 2**60] * 3
    assert low.clipped == 9


def test_named_statistics_are_added_with_their_sign():
    plan = plan_of(one(), statistics=["loss", "gain"])
    inputs = [{"x": np.zeros(4, np.float32)}] * 3
    named = [{"loss": 0.5, "gain": -1000.25}, {"gain": 0.0, "loss": 2}, {"loss": 1e9, "gain": 1e-9}]
    found = aggregate(plan, inputs, [1, 2, 3], named)
    assert found.statistics == {"gain": -1000.25, "loss": 1e9 + 2.5}
    assert found.weight == 6


def test_more_statistics_than_a_chunk_holds():
    names = [f"s{number:05}" for number in range(CHUNK_BYTES // 8 + 3)]
    plan = plan_of(statistics=names)
    found = aggregate(plan, [{}] * 3, [1] * 3, [dict.fromkeys(names, 0.25)] * 3)
    assert set(found.statistics.values()) == {0.75}
    assert found.means() == found.sums() == {}


def test_chunk_size_changes_nothing(monkeypatch):
    plan = plan_of(one("float32", (7001,)), TensorField("y", "float64", (13,), EACH, 3), ring=32)
    numbers = np.random.default_rng(8)
    tensors = {"x": numbers.normal(0, 0.1, 7001).astype(np.float32), "y": numbers.normal(0, 1, 13)}
    expected = encode_masked(plan, tensors, 9, {}, pair_masks(1, 4))
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 1024)
    assert np.array_equal(encode_masked(plan, tensors, 9, {}, pair_masks(1, 4)), expected)


def test_order_of_the_tensors_changes_nothing():
    tensors = {"a": np.ones(2, np.float32), "b": np.zeros(3, np.float32)}
    fields = [TensorField("a", "float32", (2,), MEAN, 0), TensorField("b", "float32", (3,), MEAN, 0)]
    forwards, backwards = plan_of(*fields), plan_of(*reversed(fields))
    assert forwards.encode() == backwards.encode()
    turned = dict(reversed(tensors.items()))
    assert np.array_equal(
        encode_masked(forwards, tensors, 1, {}, []), encode_masked(backwards, turned, 1, {}, [])
    )


def test_masks_cover_every_byte():
    plan = plan_of(one("float32", (3,)), ring=32, statistics=["s"])
    plain = encode_masked(plan, {"x": np.zeros(3, np.float32)}, 1, {"s": 0}, [])
    seen = np.zeros(plan.vector_bytes, np.uint8)
    for number in range(8):
        seen |= plain ^ encode_masked(plan, {"x": np.zeros(3, np.float32)}, 1, {"s": 0}, [(seed(number), 1)])
    assert plan.statistics_offset == 16 > plan.main_bytes == 12
    assert np.all(seen)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value):
    tensor = np.zeros(100_000, np.float32)
    tensor[99_999] = value
    error = refused(plan_of(one("float32", (100_000,))), {"x": tensor})
    assert (error.code, error.facts) == ("E_NONFINITE", {"field": "x"})
    assert refused(plan_of(statistics=["s"]), {}, statistics={"s": value}).code == "E_NONFINITE"


@pytest.mark.parametrize("weight", [0, -1, 1025, True, 1.5, 2.0, float("nan")])
def test_weight_outside_the_plan_is_refused_not_capped(weight):
    assert refused(plan_of(one()), {"x": np.zeros(4, np.float32)}, weight).code == "E_WEIGHT_RANGE"


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({}, "E_PLAN"),
        ({"x": np.zeros(4, np.float32), "y": np.zeros(4, np.float32)}, "E_PLAN"),
        ({"x": np.zeros(5, np.float32)}, "E_PLAN"),
        ({"x": np.zeros((2, 2), np.float32)}, "E_PLAN"),
        ({"x": np.zeros(4, np.float64)}, "E_UNSUPPORTED_DTYPE"),
        ({"x": np.zeros(4, np.complex64)}, "E_UNSUPPORTED_DTYPE"),
        ({"x": np.array(["a"] * 4, object)}, "E_UNSUPPORTED_DTYPE"),
    ],
)
def test_other_tensors_than_the_plan_lists_are_refused(tensors, code):
    assert refused(plan_of(one()), tensors).code == code


def test_other_statistics_than_the_plan_lists_are_refused():
    plan, tensors = plan_of(one(), statistics=["loss"]), {"x": np.zeros(4, np.float32)}
    assert refused(plan, tensors).code == "E_PLAN"
    assert refused(plan, tensors, statistics={"loss": 1, "age": 2}).code == "E_PLAN"
    assert refused(plan, tensors, statistics={"loss": 2.0**33}).code == "E_OVERFLOW_BUDGET"


def test_huge_norm_is_cut_off_instead_of_wrapping():
    plan = plan_of(one("float64", (64,), EACH, 40))
    found = aggregate(plan, [{"x": np.full(64, 2.0**40)}] * 3, [1] * 3)
    assert found.norm2 == 3 * 2.0**32
    assert found.clipped == 0


@pytest.mark.parametrize(
    "vector", [np.zeros(3, np.uint8), np.zeros(8, np.uint64), np.zeros((2, 32), np.uint8)], ids=str
)
def test_a_vector_of_another_size_is_refused(vector):
    with pytest.raises(SecureAggregationError) as caught:
        Accumulator(plan_of(one("float32", (4,)))).add(vector)
    assert caught.value.code == "E_DECODE"


def test_a_strided_vector_is_added_like_its_copy():
    plan = plan_of(one())
    vector = encode_masked(plan, {"x": np.ones(4, np.float32)}, 3, {}, [])
    total = Accumulator(plan)
    total.add(np.repeat(vector, 2)[::2])
    assert total.decode().sums()["x"].tolist() == [3] * 4


@pytest.mark.parametrize("numbers", [(1 << 19) - 9, (1 << 19) - 8, 1 << 20])
def test_a_large_vector_begins_on_a_huge_page(numbers):
    plan = plan_of(one("float32", (numbers,)), ring=32)
    vector = encode_masked(plan, {"x": np.full(numbers, 0.5, np.float32)}, 1024, {}, [])
    assert vector.nbytes == plan.vector_bytes
    assert vector.flags.c_contiguous
    assert vector.nbytes < 1 << 21 or vector.ctypes.data % (1 << 21) == 0
    assert np.all(vector[: plan.main_bytes].view("<u4") == 1 << 27)
