"""What an order adds up under masks, derived from the approved specification alone.

The server proposes a plan; each site derives the same one by itself and refuses any other. The server's only
freedom is the clip, one power of two for all tensors, which may grow when the cohort's sum was clipped.
"""

from fl_jobs.messages import TaskOrder
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.privacy.updates import least_log2_clip
from secure_agg.errors import SecureAggregationError
from secure_agg.plan import Plan, Purpose, TensorField, Weighting
from secure_agg.thresholds import colluding_default

RING64_BYTES_MAX = 16 * 2**20  # of float32; larger models travel in 2^32: as many bytes as without masks
FIRST_CLIP, UPDATE_CLIP, PHASE_CLIP = 4, 1, 12  # log2: whole parameters; their change in a round; features
CLIP_BITS = range(12 + 1)
PHASE_S = 120  # for each of freeze, reveal and recovery
_WEIGHTING = {"samples": Weighting.MEAN, "one": Weighting.EACH}


def make_plan(spec: RunSpec, order: TaskOrder, *, site_count: int, log2_clip: int) -> Plan:
    """The plan of ``order`` for a roster of ``site_count`` sites. Raises SecureAggregationError E_PLAN."""
    declared = order.declared(spec)
    fields = [
        TensorField(wire, "float32", tensor.shape, _WEIGHTING[tensor.lane], log2_clip)
        for wire, tensor in declared.items()
    ]
    trains = order.name == "train" and bool(fields)
    plan = Plan(
        purpose=Purpose.TRAIN if trains else Purpose.STATISTIC,
        ring=ring_of(spec, order),
        weight_max=spec.policy.weight_max,
        colluding=colluding_default(site_count),
        cohort_min=spec.min_sites,
        site_count=site_count,
        fields=tuple(sorted(fields, key=lambda field: field.name.encode())),
        statistics=tuple(sorted(order.statistics(spec), key=str.encode)),
        context=order.digest(spec.digest()),
        freeze_s=PHASE_S,
        reveal_s=PHASE_S,
        recover_s=PHASE_S,
    )
    plan.validate()
    return plan


def ring_of(spec: RunSpec, order: TaskOrder) -> int:
    """64 (exact) for phases and models up to 16 MiB of float32, else 32 (as many bytes as float32)."""
    numbers = sum(tensor.size for tensor in order.declared(spec).values())
    return 32 if order.name == "train" and 4 * numbers > RING64_BYTES_MAX else 64


def vector_sizes(spec: RunSpec, order_name: str) -> set[int]:
    """The lengths in bytes that a masked answer to an order of this name can have."""
    headers = (
        {(t.arm, t.phase) for t in spec.tensors if t.phase != "train"} if order_name == "phase" else set()
    )
    orders = [TaskOrder(order_name, 1, {"arm": arm, "phase": phase}) for arm, phase in sorted(headers)]
    return {
        make_plan(spec, order, site_count=spec.min_sites, log2_clip=0).vector_bytes
        for order in orders or [TaskOrder(order_name, 1)]
    }


def first_clip(spec: RunSpec, order: TaskOrder) -> int:
    """log2 of the clip to begin with. In ring 64 there is room to spare for whole parameters every round."""
    if order.name == "phase":
        return PHASE_CLIP
    is_change = any(wire in order.tensors for wire in order.declared(spec))
    usual = UPDATE_CLIP if is_change and ring_of(spec, order) == 32 else FIRST_CLIP
    return max(usual, least_log2_clip(spec))


def accept_plan(spec: RunSpec, order: TaskOrder, plan: Plan, *, site_count: int) -> None:
    """Refuse a plan that is not the one this site derives. Raises SecureAggregationError E_PLAN."""
    clips = {field.log2_clip for field in plan.fields} or {FIRST_CLIP}
    if len(clips) > 1 or not clips <= set(CLIP_BITS):
        raise SecureAggregationError("E_PLAN", reason="the clip is not one of those this version uses")
    if plan.fields and min(clips) < least_log2_clip(spec):
        raise SecureAggregationError("E_PLAN", reason="the clip would cut off noise that protects the sites")
    own = make_plan(spec, order, site_count=site_count, log2_clip=clips.pop())
    if own.encode() != plan.encode():
        raise SecureAggregationError("E_PLAN", reason="it is not what the approved specification gives")
