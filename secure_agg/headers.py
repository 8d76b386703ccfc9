"""What both ends of FLSA-1 check and hash alike: headers, survivor lists, signs of pair masks."""

from collections.abc import Sequence
from typing import Final, TypeVar

from secure_agg.errors import SecureAggregationError
from secure_agg.framing import Indexed
from secure_agg.keys import digest, u16
from secure_agg.messages import Header
from secure_agg.roster import Roster
from secure_agg.wire import Struct

SERVER: Final = "the server"  # as the sender of what a site finds malformed or contradictory
StructT = TypeVar("StructT", bound=Struct)


def pair_sign(own: int, peer: int) -> int:
    """How a pair's mask counts at ``own``: the lower of the two adds it, the higher takes it away."""
    return 1 if own < peer else -1


def check_header(
    roster: Roster, header: Header, index: int, context: bytes, users: Sequence[int], number: int
) -> None:
    """Raise unless ``header`` is that of site ``index`` for this round, with one tag for each other site."""
    name = roster.names[index]
    if header.index != index or not roster.is_signed(index, header.sig, header.signed_body()):
        raise SecureAggregationError("E_HEADER_AUTH", site=name)
    if header.round_ctx != context:
        raise SecureAggregationError("E_CONTEXT_MISMATCH", site=name, round=number)
    if [peer for peer, _ in header.tags] != [peer for peer in users if peer != index]:
        raise SecureAggregationError("E_DECODE", site=name, field="pair tags")


def freeze_hash(context: bytes, survivors: Sequence[int], headers: Indexed) -> bytes:
    """The name of one survivor list with everything its members committed to."""
    indices = b"".join(u16(index) for index in survivors)
    return digest("freeze", context, indices, *(encoded for _, encoded in headers))


def decode_from(kind: type[StructT], site: str, data: bytes) -> StructT:
    """What ``site`` sent, whose name stands in the error when it is malformed."""
    try:
        return kind.decode(data)
    except SecureAggregationError as error:
        raise error.about(site=site) from None
