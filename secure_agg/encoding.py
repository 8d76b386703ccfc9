"""Numbers into ring elements and back: fixed point, the weight inside, the mask on top in one pass.

A vector is the tensors' lane in ring 32 or 64, zeros up to 16 bytes, then the statistics' lane of 64-bit
words. Sums wrap nowhere: the plan's budget leaves room for all sites at full weight.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secure_agg.errors import SecureAggregationError
from secure_agg.masks import CHUNK_BYTES, Masks, apply_masks
from secure_agg.plan import LANE_WORDS, STATISTIC_BITS, Plan, TensorField, Weighting

_WORD: Final[dict[int, np.dtype[Any]]] = {32: np.dtype("<u4"), 64: np.dtype("<u8")}
_SIGNED: Final[dict[int, np.dtype[Any]]] = {32: np.dtype("<i4"), 64: np.dtype("<i8")}
_LANE: Final = np.dtype("<u8")
_SCALE: Final = float(2**STATISTIC_BITS)
_HUGE_PAGE_BYTES: Final = 2 * 1024 * 1024
_STATISTIC_MAX: Final = 2**52  # exact in a float, and a thousand sites of it fit a word
Seeds = Sequence[tuple[bytes, int]]
Array = NDArray[Any]


def encode_masked(
    plan: Plan,
    tensors: Mapping[str, Array],
    weight: int,
    statistics: Mapping[str, float],
    masks: Seeds,
) -> NDArray[np.uint8]:
    """The masked vector of one site.

    ``weight`` is 1 to plan.weight_max; ``masks`` are seeds with the sign they are added with. Raises E_PLAN
    for other names or shapes than the plan's, E_UNSUPPORTED_DTYPE, E_NONFINITE, E_WEIGHT_RANGE.
    """
    if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= plan.weight_max:
        raise SecureAggregationError("E_WEIGHT_RANGE", limit=plan.weight_max)
    _check_names(plan, tensors, statistics)
    words = [_statistic(name, statistics[name]) for name in plan.statistics]
    vector = _fresh(plan.vector_bytes)
    main, lane = _lanes(plan, vector)
    streams, encoder, at = Masks(masks), _Encoder(plan, weight), 0
    for item in plan.fields:
        for part in _pieces(item, tensors[item.name], plan.ring):
            target = main[at : at + len(part)]
            encoder.write(item, part, target)
            streams.apply(target)
            at += len(part)
    streams.apply(main[at:])  # the padding
    fixed = (weight, encoder.clipped, min(round(encoder.norm2 * _SCALE), _STATISTIC_MAX), 1)
    lane[:] = np.array([*fixed, *words], dtype=object).astype(_LANE)
    step = CHUNK_BYTES // _LANE.itemsize
    for start in range(0, len(lane), step):
        streams.apply(lane[start : start + step])
    return vector


class _Encoder:
    """Quantises chunk by chunk into the ring; counts what was clipped and the squared norm on the way."""

    def __init__(self, plan: Plan, weight: int) -> None:
        self._plan, self._weight = plan, weight
        self._buffer = np.empty(CHUNK_BYTES // 4, np.float64)
        self.clipped, self.norm2 = 0, 0.0

    def write(self, item: TensorField, part: Array, target: Array) -> None:
        if item.dtype == "int64":
            self._write_whole(item, part, target)
            return
        buffer, limit = self._buffer[: len(part)], 2.0**item.log2_clip
        low, high = float(part.min()), float(part.max())  # NaN comes through both
        if not (isfinite(low) and isfinite(high)):
            raise SecureAggregationError("E_NONFINITE", field=item.name)
        if low < -limit or high > limit:
            self.clipped += int(np.count_nonzero(np.abs(part) > limit))
            np.clip(part, -limit, limit, out=buffer, dtype=np.float64)
        else:
            np.copyto(buffer, part)
        self.norm2 += float(np.dot(buffer, buffer))
        weighs = item.weighting is Weighting.MEAN
        share = self._weight / self._plan.weight_max if weighs and self._plan.ring == 32 else 1.0
        # the dtype is not optional: NEP 50 would multiply float32 by a Python float in float32
        np.multiply(buffer, 2.0 ** self._plan.fraction_bits(item) * share, out=buffer, dtype=np.float64)
        np.rint(buffer, out=buffer)
        np.copyto(target.view(_SIGNED[self._plan.ring]), buffer, casting="unsafe")
        if weighs and self._plan.ring == 64:
            np.multiply(target, target.dtype.type(self._weight), out=target)

    def _write_whole(self, item: TensorField, part: Array, target: Array) -> None:
        limit = 2**item.log2_clip
        self.clipped += int(np.count_nonzero((part > limit) | (part < -limit)))
        target[:] = np.clip(part, -limit, limit).astype(_SIGNED[64]).view(target.dtype)


@dataclass(frozen=True)
class Aggregate:
    """The sum over the survivors. ``weight`` is Σw; ``norm2`` is Σ‖x‖² over the sites."""

    plan: Plan
    participants: int
    weight: int
    clipped: int
    norm2: float
    statistics: dict[str, float]
    main: Array = field(repr=False)

    def sums(self) -> dict[str, NDArray[np.float64]]:
        """By tensor: Σ w·x of a weighted mean, else Σ x."""
        return {item.name: self._scaled(item, part, 1.0) for item, part in self._parts()}

    def means(self) -> dict[str, Array]:
        """By tensor in its declared type: the mean, or the sum of a field that is only summed."""
        divisors = {Weighting.MEAN: self.weight, Weighting.EACH: self.participants, Weighting.SUM: 1}
        found: dict[str, Array] = {}
        for item, part in self._parts():
            if item.dtype == "int64":
                found[item.name] = part.astype(np.int64).reshape(item.shape)
            else:
                scaled = self._scaled(item, part, float(divisors[item.weighting]))
                found[item.name] = scaled.astype(item.dtype, copy=False)
        return found

    def _scaled(self, item: TensorField, part: Array, divisor: float) -> NDArray[np.float64]:
        unit = 2.0 ** -self.plan.fraction_bits(item)
        if self.plan.ring == 32 and item.weighting is Weighting.MEAN:
            unit *= self.plan.weight_max
        values: NDArray[np.float64] = np.multiply(part, unit / divisor, dtype=np.float64)
        return values.reshape(item.shape)

    def _parts(self) -> Iterator[tuple[TensorField, Array]]:
        at = 0
        for item in self.plan.fields:
            yield item, self.main[at : at + item.size].view(_SIGNED[self.plan.ring])
            at += item.size


class Accumulator:
    """The server's sum of masked vectors; it holds one vector, however many sites there are."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._total = _fresh(plan.vector_bytes)

    def add(self, vector: NDArray[np.uint8]) -> None:
        """Add a site's vector. Raises E_DECODE for another length or type."""
        if vector.dtype != np.uint8 or vector.shape != self._total.shape:
            raise SecureAggregationError("E_DECODE", field="masked vector")
        mine, other = _lanes(self._plan, self._total), _lanes(self._plan, np.ascontiguousarray(vector))
        for total, part in zip(mine, other, strict=True):
            np.add(total, part, out=total)

    def unmask(self, seeds: Seeds) -> None:
        """Take out masks; the sign of each is the one it was added with."""
        apply_masks(_lanes(self._plan, self._total), [(seed, -sign) for seed, sign in seeds])

    def decode(self) -> Aggregate:
        """The sum, once every mask was taken out; before that it is noise."""
        main, lane = _lanes(self._plan, self._total)
        weight, clipped, norm2, participants = (int(word) for word in lane[:LANE_WORDS])
        named = lane[LANE_WORDS:].view(_SIGNED[64]).astype(np.float64) / _SCALE
        statistics = dict(zip(self._plan.statistics, named.tolist(), strict=True))
        return Aggregate(self._plan, participants, weight, clipped, norm2 / _SCALE, statistics, main)


def _fresh(size: int) -> NDArray[np.uint8]:
    """Zeros from a huge page on: a thousand page faults cost a sixth of masking a million numbers."""
    if size < _HUGE_PAGE_BYTES:
        return np.zeros(size, np.uint8)
    room = np.zeros(size + 2 * _HUGE_PAGE_BYTES, np.uint8)  # what is not touched takes no memory
    start = -room.ctypes.data % _HUGE_PAGE_BYTES
    return room[start : start + size]


def _lanes(plan: Plan, vector: NDArray[np.uint8]) -> tuple[Array, Array]:
    """The tensors' lane with its padding, and the statistics' lane, as words."""
    cut = plan.statistics_offset
    return vector[:cut].view(_WORD[plan.ring]), vector[cut:].view(_LANE)


def _check_names(plan: Plan, tensors: Mapping[str, Array], statistics: Mapping[str, float]) -> None:
    if tensors.keys() != {item.name for item in plan.fields} or statistics.keys() != set(plan.statistics):
        reason = "it lists other tensors or statistics than this site has"
        raise SecureAggregationError("E_PLAN", reason=reason)
    for item in plan.fields:
        tensor = tensors[item.name]
        if tensor.dtype.newbyteorder("=") != np.dtype(item.dtype):
            raise SecureAggregationError("E_UNSUPPORTED_DTYPE", field=item.name, dtype=str(tensor.dtype))
        if tensor.shape != item.shape:
            raise SecureAggregationError("E_PLAN", reason=f"{item.name} has another shape at this site")


def _pieces(item: TensorField, tensor: Array, ring: int) -> Iterator[Array]:
    """The tensor's elements in C order, at most a chunk of ring words at a time."""
    flat, step = np.ascontiguousarray(tensor).reshape(-1), CHUNK_BYTES * 8 // ring
    for at in range(0, item.size, step):
        yield flat[at : at + step]


def _statistic(name: str, value: float) -> int:
    if not isfinite(value):
        raise SecureAggregationError("E_NONFINITE", field=name)
    scaled = round(value * _SCALE)
    if abs(scaled) > _STATISTIC_MAX:
        needed = scaled.bit_length()
        raise SecureAggregationError("E_OVERFLOW_BUDGET", field=name, needed=needed, ring=64)
    return scaled % 2**64
