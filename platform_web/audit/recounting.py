"""Hashing again what is stored: an entry's row that was changed or deleted is found at a site's next visit.

A witness sees checkpoints only, and those do not change when a row goes. So each visit also has the portal
take the hashes of a piece of the log from the entries' bytes of this moment. That holds against somebody with
the database and without this process; a portal that lies is what signed bundles and ``verify.py`` are for.
"""

from dataclasses import dataclass

from django.db import transaction

from compliance import merkle
from compliance.pieces import PIECE, root_of_piece
from compliance.tiles import full_root
from platform_web.audit import selectors, services, storage
from platform_web.audit.models import AuditEvent

MOST_NAMED = 20
MOST_LOOKED_AT = 100
ACT = "log.entry_altered"


@dataclass(frozen=True)
class Recount:
    """``nodes``: the hashes over the piece, as ``merkle.cover`` cuts it; none when an entry is not as it was.

    ``proof``: what stands beside the piece in the tree. ``altered``: indices, the first 20 that are known.
    """

    nodes: list[bytes]
    proof: list[bytes]
    altered: list[int]


def recount(*, year: int, size: int, start: int) -> Recount | None:
    """Leaves ``start`` to at most PIECE further of the tree of ``size``; None where there is no such piece.

    A piece that is not as it was is written down once.
    """
    if start % PIECE or not start < size <= selectors.sequenced_size(year):
        return None
    end = min(start + PIECE, size)
    try:
        proof = merkle.range_proof(selectors.subtree(year, size), start, end, size)
    except merkle.ProofError:  # the tree's own rows are damaged
        proof = []
    digests, altered = _stored(year, start, end)
    if altered:
        found = Recount([], proof, altered[:MOST_NAMED])
    else:
        nodes = [full_root(digests[begin - start : after - start]) for begin, after in _cut(start, end)]
        found = Recount(nodes, proof, [])
    if not found.nodes or found.nodes != _tree_nodes(year, start, end):
        write_down(year, start, end)
    return found


def root(found: Recount, start: int, size: int) -> bytes | None:
    """The root of the tree of ``size`` that a recounted piece leads to; None for one that is not whole."""
    try:
        return root_of_piece(start, min(start + PIECE, size), size, found.nodes, found.proof)
    except merkle.ProofError:
        return None


def altered_now() -> list[str]:
    """Where a recount found what is not as it was, and it still is not: indices, or the whole piece."""
    said = AuditEvent.objects.filter(act=ACT).order_by("number").values_list("obj", flat=True)
    places: list[str] = []
    for name in said[:MOST_LOOKED_AT]:
        if len(places) >= MOST_NAMED:
            break
        year, start, end = map(int, name.removeprefix("piece:").split("/"))
        end = max(end, min(start + PIECE, selectors.sequenced_size(year)))  # it may have grown since
        found = recount(year=year, size=end, start=start)
        if found is None or found.altered:
            places += [f"{year}/{index}" for index in (found.altered if found else [start])]
        elif found.nodes != _tree_nodes(year, start, end):
            places.append(f"{year}/{start}–{end - 1}")
    return places


def _tree_nodes(year: int, start: int, end: int) -> list[bytes]:
    """What the tree's own rows say; nothing when they are damaged."""
    tree = selectors.subtree(year, end)
    try:
        return [tree(*node) for node in _cut(start, end)]
    except merkle.ProofError:
        return []


def _stored(year: int, start: int, end: int) -> tuple[list[bytes], list[int]]:
    """The hashes of the entries' bytes in order, and the indices without the bytes the sequencer saw."""
    digests: list[bytes] = []
    altered: list[int] = []
    place = start
    for block in storage.places(year, start - 1, end - 1, end - start):
        for index, kept, _number, leaf in block:
            altered += range(place, index)
            digests.append(merkle.leaf_hash(leaf))
            if digests[-1] != bytes(kept):
                altered.append(index)
            place = index + 1
    return digests, altered + list(range(place, end))


def _cut(start: int, end: int) -> list[tuple[int, int]]:
    return merkle.cover(start, end, end)


@transaction.atomic
def write_down(year: int, start: int, end: int) -> None:
    """An entry for the piece, one for as long as the log lasts.

    Not one for each ``end``: the entry itself makes the last piece longer, and so on without end.
    """
    said = AuditEvent.objects.filter(act=ACT, obj__startswith=f"piece:{year}/{start}/")
    if not said.exists():
        services.record(act=ACT, out="error", obj=[("piece", f"{year}/{start}/{end}", "")])
