"""From an unmasked FLSA-1 aggregate to the sums the server's session folds."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_jobs.messages import Gathered, Sums, TaskOrder
from fl_jobs.packaging.spec import RunSpec
from secure_agg.encoding import Aggregate

CLIP_RATE_MAX = 1e-4


def gathered_from(
    aggregate: Aggregate, order: TaskOrder, spec: RunSpec, open_parts: Mapping[str, Mapping[str, Any]]
) -> Gathered:
    """Sites sent changes against ``order.tensors``: Σ w·x = Σ w·(x - base) + base·Σ w."""
    weights = {"samples": float(aggregate.weight), "one": float(aggregate.participants)}
    tensors, by_name = aggregate.sums(), {}
    for wire, tensor in order.declared(spec).items():
        by_name[wire] = weights[tensor.lane]
        if wire in order.tensors:
            tensors[wire] += order.tensors[wire].astype(np.float64) * weights[tensor.lane]
    metrics: dict[str, dict[str, float]] = {}
    for name, value in aggregate.statistics.items():
        arm, _, key = name.partition("/")
        metrics.setdefault(arm, {})[key] = value
    return Gathered(Sums(tensors, by_name), metrics, open_parts)


def was_clipped(aggregate: Aggregate, order: TaskOrder, spec: RunSpec) -> bool:
    """Return whether so much of the cohort's change was cut off that the next clip should be doubled."""
    numbers = sum(tensor.size for tensor in order.declared(spec).values()) * aggregate.participants
    return aggregate.clipped > CLIP_RATE_MAX * numbers
