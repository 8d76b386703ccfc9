"""One strict encoding per value: fixed order, little endian, nothing optional, every limit before memory.

A reader that finds anything else raises E_DECODE and names the field; what it accepts encodes back to the
same bytes. A writer refuses what a reader would refuse.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, NoReturn, Self, TypeVar

from secure_agg.errors import SecureAggregationError
from secure_agg.keys import u16, u32
from secure_agg.thresholds import MOST_SITES

Item = TypeVar("Item")


def refuse(field: str) -> NoReturn:
    raise SecureAggregationError("E_DECODE", field=field)


def is_printable(text: str) -> bool:
    """Printable ASCII: identifiers look alike to a person exactly when their bytes are alike."""
    return text.isascii() and text.isprintable()


class Writer:
    """Builds the bytes of one struct."""

    def __init__(self, start: bytes = b"") -> None:
        self._parts = [start]

    def done(self) -> bytes:
        return b"".join(self._parts)

    def _whole(self, field: str, value: int, size: int) -> None:
        if not 0 <= value < 1 << 8 * size:
            refuse(field)
        self._parts.append(value.to_bytes(size, "little"))

    def u8(self, field: str, value: int) -> None:
        self._whole(field, value, 1)

    def u16(self, field: str, value: int) -> None:
        self._whole(field, value, 2)

    def u32(self, field: str, value: int) -> None:
        self._whole(field, value, 4)

    def u64(self, field: str, value: int) -> None:
        self._whole(field, value, 8)

    def index(self, field: str, value: int) -> None:
        """A site's position in the roster."""
        if not 0 <= value < MOST_SITES:
            refuse(field)
        self._parts.append(u16(value))

    def fixed(self, field: str, value: bytes, size: int) -> None:
        if len(value) != size:
            refuse(field)
        self._parts.append(bytes(value))

    def blob(self, field: str, value: bytes, limit: int) -> None:
        if len(value) > limit:
            refuse(field)
        self._parts += [u32(len(value)), bytes(value)]

    def text(self, field: str, value: str, limit: int) -> None:
        if not value or not is_printable(value):
            refuse(field)
        self.blob(field, value.encode(), limit)

    def count(self, field: str, value: int, limit: int = MOST_SITES) -> None:
        """The length of a list."""
        if value > limit:
            refuse(field)
        self._parts.append(u16(value))

    def indices(self, field: str, values: Sequence[int]) -> None:
        """A set of sites: ascending, none twice."""
        self.count(field, len(values))
        ascending(field, values)
        for value in values:
            self.index(field, value)


class Reader:
    """Takes one struct apart. Every method names the field it reads, for the error."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def _take(self, field: str, size: int) -> bytes:
        if size > len(self._data) - self._at:
            refuse(field)
        self._at += size
        return bytes(self._data[self._at - size : self._at])

    def u8(self, field: str) -> int:
        return self._take(field, 1)[0]

    def u16(self, field: str) -> int:
        return int.from_bytes(self._take(field, 2), "little")

    def u32(self, field: str) -> int:
        return int.from_bytes(self._take(field, 4), "little")

    def u64(self, field: str) -> int:
        return int.from_bytes(self._take(field, 8), "little")

    def index(self, field: str) -> int:
        value = self.u16(field)
        if value >= MOST_SITES:
            refuse(field)
        return value

    def fixed(self, field: str, size: int) -> bytes:
        return self._take(field, size)

    def blob(self, field: str, limit: int) -> bytes:
        size = self.u32(field)
        if size > limit:
            refuse(field)
        return self._take(field, size)

    def text(self, field: str, limit: int) -> str:
        raw = self.blob(field, limit)
        text = raw.decode("ascii", "replace")
        if not text or not is_printable(text):
            refuse(field)
        return text

    def count(self, field: str, item_bytes: int, limit: int = MOST_SITES) -> int:
        """The length of a list whose items take ``item_bytes`` or more: a long list must have its bytes."""
        value = self.u16(field)
        if value > limit or value * item_bytes > len(self._data) - self._at:
            refuse(field)
        return value

    def indices(self, field: str) -> tuple[int, ...]:
        values = tuple(self.index(field) for _ in range(self.count(field, 2)))
        ascending(field, values)
        return values

    def end(self) -> None:
        if self._at != len(self._data):
            refuse("trailing bytes")


def ascending(field: str, keys: Sequence[int] | Sequence[bytes]) -> None:
    """Lists are sorted and hold nothing twice, so that a set has one encoding."""
    if any(not earlier < later for earlier, later in pairwise(keys)):  # type: ignore[operator]
        refuse(field)


def put_pairs(
    writer: Writer, field: str, pairs: Sequence[tuple[int, Item]], put: Callable[[Item], object]
) -> None:
    """A list of what each of some sites has, by ascending site; ``put`` writes one item."""
    writer.count(field, len(pairs))
    ascending(field, [index for index, _ in pairs])
    for index, item in pairs:
        writer.index(field, index)
        put(item)


def take_pairs(
    reader: Reader, field: str, item_bytes: int, take: Callable[[], Item]
) -> tuple[tuple[int, Item], ...]:
    """What ``put_pairs`` wrote, of items that take ``item_bytes`` or more."""
    count = reader.count(field, 2 + item_bytes)
    pairs = tuple((reader.index(field), take()) for _ in range(count))
    ascending(field, [index for index, _ in pairs])
    return pairs


class Struct(ABC):
    """A fixed order of fields; encode and decode are each other's inverse."""

    START: ClassVar[bytes] = b""

    def encode(self) -> bytes:
        writer = Writer(self.START)
        self._put(writer)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        if reader.fixed("message type", len(cls.START)) != cls.START:
            refuse("message type")
        struct = cls._take(reader)
        reader.end()
        return struct

    @abstractmethod
    def _put(self, writer: Writer) -> None:
        """Write every field in order."""

    @classmethod
    @abstractmethod
    def _take(cls, reader: Reader) -> Self:
        """Read every field in order."""
