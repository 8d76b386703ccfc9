"""What one round sums and how: the order that every site checks, encodes by and hashes into its keys."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod
from typing import Final, Self

from secure_agg.errors import SecureAggregationError
from secure_agg.keys import HASH_BYTES
from secure_agg.thresholds import MOST_SITES, SMALLEST_COHORT, threshold
from secure_agg.wire import Reader, Struct, Writer, ascending, refuse

DTYPES: Final = {"float16": 1, "float32": 2, "float64": 3, "int64": 4}
_DTYPE_OF: Final = {code: name for name, code in DTYPES.items()}
LANE_WORDS: Final = 4  # weight, clipped, squared norm, participants
STATISTIC_BITS: Final = 20  # binary places of the norm and the named statistics
LANE_ALIGNMENT: Final = 16  # one AES block
_MOST_ELEMENTS: Final = 2**32  # a vector stays below the 64 GiB that one key stream may have
_MOST_FIELDS, _MOST_STATISTICS, _MOST_AXES, _NAME_LIMIT = 65_535, 4096, 16, 255
_SMALLEST_CLIP, _LARGEST_CLIP = -64, 62  # as powers of two
_LARGEST_WEIGHT, _LONGEST_WAIT_S = 2**31, 7 * 24 * 3600


class Purpose(IntEnum):
    TRAIN = 1
    STATISTIC = 2


class Weighting(IntEnum):
    """MEAN counts a site by its weight, EACH counts every site once, SUM adds without dividing."""

    MEAN = 0
    EACH = 1
    SUM = 2


@dataclass(frozen=True)
class TensorField:
    """One tensor of the sum. Values beyond 2^log2_clip are clipped and counted."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    weighting: Weighting
    log2_clip: int

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Plan(Struct):
    """Fields and statistics are sorted by name; ``make_plan`` sorts them."""

    START = b"FLSA-1/plan\x00\x01"
    purpose: Purpose
    ring: int
    weight_max: int
    colluding: int
    cohort_min: int
    site_count: int
    fields: tuple[TensorField, ...]
    statistics: tuple[str, ...]
    context: bytes = field(default=bytes(HASH_BYTES))
    freeze_s: int = 120
    reveal_s: int = 120
    recover_s: int = 120

    @property
    def main_bytes(self) -> int:
        """The tensors' lane, without its padding."""
        return self.ring // 8 * sum(each.size for each in self.fields)

    @property
    def statistics_offset(self) -> int:
        return -(-self.main_bytes // LANE_ALIGNMENT) * LANE_ALIGNMENT

    @property
    def vector_bytes(self) -> int:
        return self.statistics_offset + 8 * (LANE_WORDS + len(self.statistics))

    def fraction_bits(self, of: TensorField) -> int:
        """Binary places that a field's values keep, so that the sum of all sites cannot wrap."""
        if of.dtype == "int64":
            return 0
        if self.ring == 32:
            return 30 - of.log2_clip - _log2_ceil(self.site_count)
        heaviest = _log2_ceil(self.site_count * self.weight_max)
        return min(40, 52 - of.log2_clip, 62 - of.log2_clip - heaviest)

    def _bits_needed(self, of: TensorField) -> int:
        """With sign, guard bit and at least whole numbers."""
        copies = self.site_count
        if self.ring == 64 and of.dtype != "int64":
            copies *= self.weight_max
        return of.log2_clip + _log2_ceil(copies) + 2

    def validate(self) -> None:
        """Raise unless every site may encode by this plan."""
        threshold(self.site_count, self.colluding, self.cohort_min)
        for acceptable, reason in (
            (self.ring in (32, 64), f"there is no ring of {self.ring} bits"),
            (1 <= self.weight_max <= _LARGEST_WEIGHT, f"its weight limit is {self.weight_max}"),
            (SMALLEST_COHORT <= self.site_count <= MOST_SITES, f"it is for {self.site_count} sites"),
            (all(1 <= wait <= _LONGEST_WAIT_S for wait in self._waits), "a deadline is zero or over a week"),
        ):
            if not acceptable:
                raise SecureAggregationError("E_PLAN", reason=reason)
        for each in self.fields:
            self._validate_field(each)

    def _validate_field(self, of: TensorField) -> None:
        if of.dtype not in DTYPES or (of.dtype == "int64" and self.ring != 64):
            raise SecureAggregationError("E_UNSUPPORTED_DTYPE", field=of.name, dtype=of.dtype)
        if of.dtype == "int64" and of.weighting is not Weighting.SUM:
            raise SecureAggregationError("E_PLAN", reason=f"{of.name} holds integers, which are only summed")
        if not _SMALLEST_CLIP <= of.log2_clip <= _LARGEST_CLIP:
            raise SecureAggregationError("E_PLAN", reason=f"the clip of {of.name} is 2^{of.log2_clip}")
        if self._bits_needed(of) > self.ring or self.fraction_bits(of) < 0:
            needed = self._bits_needed(of)
            raise SecureAggregationError("E_OVERFLOW_BUDGET", field=of.name, needed=needed, ring=self.ring)

    @property
    def _waits(self) -> tuple[int, int, int]:
        return self.freeze_s, self.reveal_s, self.recover_s

    def _put(self, writer: Writer) -> None:
        writer.u8("purpose", self.purpose)
        writer.u8("ring", self.ring)
        writer.u32("weight limit", self.weight_max)
        for name, value in _COUNTS:
            writer.u16(name, getattr(self, value))
        writer.fixed("context", self.context, HASH_BYTES)
        for wait in self._waits:
            writer.u32("deadlines", wait)
        writer.count("statistics", len(self.statistics), _MOST_STATISTICS)
        ascending("statistics", [name.encode() for name in self.statistics])
        for name in self.statistics:
            writer.text("statistics", name, _NAME_LIMIT)
        writer.count("tensors", len(self.fields), _MOST_FIELDS)
        ascending("tensors", [each.name.encode() for each in self.fields])
        for each in self.fields:
            _put_field(writer, each)
        _check_size(self.fields)

    @classmethod
    def _take(cls, reader: Reader) -> Self:
        purpose, ring = reader.u8("purpose"), reader.u8("ring")
        if purpose not in tuple(Purpose) or ring not in (32, 64):
            refuse("purpose or ring")
        weight_max = reader.u32("weight limit")
        colluding, cohort_min, site_count = (reader.u16(name) for name, _ in _COUNTS)
        context = reader.fixed("context", HASH_BYTES)
        waits = [reader.u32("deadlines") for _ in range(3)]
        count = reader.count("statistics", 5, _MOST_STATISTICS)
        statistics = tuple(reader.text("statistics", _NAME_LIMIT) for _ in range(count))
        ascending("statistics", [name.encode() for name in statistics])
        count = reader.count("tensors", 10, _MOST_FIELDS)
        fields = tuple(_take_field(reader) for _ in range(count))
        ascending("tensors", [each.name.encode() for each in fields])
        _check_size(fields)
        return cls(
            Purpose(purpose), ring, weight_max, colluding, cohort_min, site_count, fields, statistics,
            context, *waits,
        )  # fmt: skip


_COUNTS: Final = (
    ("colluding sites", "colluding"),
    ("smallest cohort", "cohort_min"),
    ("site count", "site_count"),
)


def _put_field(writer: Writer, of: TensorField) -> None:
    if of.dtype not in DTYPES:
        raise SecureAggregationError("E_UNSUPPORTED_DTYPE", field=of.name, dtype=of.dtype)
    writer.text("tensor name", of.name, _NAME_LIMIT)
    writer.u8("tensor type", DTYPES[of.dtype])
    writer.u8("tensor weighting", of.weighting)
    writer.u8("tensor clip", of.log2_clip - _SMALLEST_CLIP)
    writer.count("tensor shape", len(of.shape), _MOST_AXES)
    for length in of.shape:
        writer.u64("tensor shape", length)


def _take_field(reader: Reader) -> TensorField:
    name, dtype = reader.text("tensor name", _NAME_LIMIT), _DTYPE_OF.get(reader.u8("tensor type"))
    weighting, clip = reader.u8("tensor weighting"), reader.u8("tensor clip") + _SMALLEST_CLIP
    if dtype is None or weighting not in tuple(Weighting):
        refuse("tensor type or weighting")
    count = reader.count("tensor shape", 8, _MOST_AXES)
    shape = tuple(reader.u64("tensor shape") for _ in range(count))
    return TensorField(name, dtype, shape, Weighting(weighting), clip)


def _check_size(fields: Iterable[TensorField]) -> None:
    """Refuse what is too large before anybody allocates it.

    No axis alone may be beyond the limit either, for a tensor that is empty because of another axis.
    """
    fields = tuple(fields)
    lengths = [length for each in fields for length in each.shape]
    if max(lengths, default=0) > _MOST_ELEMENTS or sum(each.size for each in fields) > _MOST_ELEMENTS:
        refuse("tensor shape")


def _log2_ceil(count: int) -> int:
    return (count - 1).bit_length()


def make_plan(*, fields: Iterable[TensorField], statistics: Iterable[str] = (), **settings: object) -> Plan:
    """A plan with its fields and statistics in their one order."""
    ordered = tuple(sorted(fields, key=lambda each: each.name.encode()))
    names = tuple(sorted(statistics, key=str.encode))
    return Plan(fields=ordered, statistics=names, **settings)  # type: ignore[arg-type]
