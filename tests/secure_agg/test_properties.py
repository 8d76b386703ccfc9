"""What holds for every plan that is accepted, on drawn plans."""

import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_agg.encoding import Accumulator, encode_masked
from secure_agg.errors import SecureAggregationError
from secure_agg.plan import Purpose, TensorField, Weighting, make_plan
from tests.secure_agg.sites import MEAN, aggregate, plan_of

EXAMPLES = int(os.environ.get("CONSILIUM_SECAGG_N", "2000")) // 20


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    ring=st.sampled_from([32, 64]), sites=st.integers(3, 40), weight_max=st.integers(1, 2**31),
    clip=st.integers(-64, 62), weighting=st.sampled_from(Weighting), sign=st.sampled_from([-1.0, 1.0]),
)  # fmt: skip
def test_an_accepted_plan_never_wraps(ring, sites, weight_max, clip, weighting, sign):
    item = TensorField("x", "float64", (1,), weighting, clip)
    plan = make_plan(
        fields=[item], purpose=Purpose.TRAIN, ring=ring, weight_max=weight_max, colluding=0, cohort_min=3,
        site_count=sites,
    )  # fmt: skip
    copies = weight_max * sites if ring == 64 else sites
    if clip + (copies - 1).bit_length() + 2 > ring or clip > 52:
        with pytest.raises(SecureAggregationError, match="the sum could wrap"):
            plan.validate()
        return
    plan.validate()
    total = Accumulator(plan)
    vector = encode_masked(plan, {"x": np.array([sign * 2.0**clip])}, weight_max, {}, [])
    for _ in range(sites):
        total.add(vector)
    copies = weight_max * sites if weighting is MEAN else sites
    rounding = 2.0 ** -(plan.fraction_bits(item) + 1) * copies
    expected = sign * copies * 2.0**clip
    assert total.decode().sums()["x"][0] == pytest.approx(expected, rel=1e-12, abs=rounding)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    ring=st.sampled_from([32, 64]), clip=st.integers(-10, 10), data=st.data(),
    weights=st.lists(st.integers(1, 4096), min_size=3, max_size=8),
)  # fmt: skip
def test_decoded_mean_stays_within_the_bound(ring, clip, data, weights):
    item = TensorField("x", "float64", (1,), MEAN, clip)
    plan = plan_of(item, ring=ring, weight_max=4096, sites=8)
    values = [data.draw(st.floats(-(2.0**clip), 2.0**clip)) for _ in weights]
    found = aggregate(plan, [{"x": np.array([value])} for value in values], weights).means()["x"][0]
    expected = sum(Fraction(v) * w for v, w in zip(values, weights, strict=True)) / sum(weights)
    bound = 2.0 ** -(plan.fraction_bits(item) + 1)
    if ring == 32:
        bound *= len(weights) * 4096 / sum(weights)
    assert abs(found - float(expected)) <= bound * (1 + 1e-9) + 2.0 ** (clip - 50)
