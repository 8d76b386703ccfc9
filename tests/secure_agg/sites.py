"""Sites that mask their numbers as the protocol has them do, without its messages."""

from secure_agg.encoding import Accumulator, Aggregate, encode_masked
from secure_agg.plan import Plan, Purpose, TensorField, Weighting, make_plan

MEAN, EACH, SUM = Weighting.MEAN, Weighting.EACH, Weighting.SUM


def plan_of(*fields: TensorField, ring=64, statistics=(), weight_max=1024, sites=4) -> Plan:
    plan = make_plan(
        fields=fields, statistics=statistics, purpose=Purpose.TRAIN, ring=ring, weight_max=weight_max,
        colluding=1, cohort_min=3, site_count=sites,
    )  # fmt: skip
    plan.validate()
    return plan


def one(dtype="float32", shape=(4,), weighting=MEAN, clip=0) -> TensorField:
    return TensorField("x", dtype, shape, weighting, clip)


def seed(number: int) -> bytes:
    return number.to_bytes(32, "big")


def pair_masks(own: int, sites: int) -> list[tuple[bytes, int]]:
    """The masks of the protocol: with each other site one of both signs, and the site's own."""
    pairs = [
        (seed(1000 * min(own, other) + max(own, other)), 1 if own < other else -1)
        for other in range(sites)
        if other != own
    ]
    return [*pairs, (seed(10**6 + own), 1)]


def aggregate(plan, inputs, weights, statistics=None) -> Aggregate:
    """All sites upload; the own masks are taken out, those of the pairs have cancelled."""
    total, sites = Accumulator(plan), len(inputs)
    for own, (tensors, weight) in enumerate(zip(inputs, weights, strict=True)):
        named = (statistics or [{}] * sites)[own]
        total.add(encode_masked(plan, tensors, weight, named, pair_masks(own, sites)))
    total.unmask([(seed(10**6 + own), 1) for own in range(sites)])
    return total.decode()
