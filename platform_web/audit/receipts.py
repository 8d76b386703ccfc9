"""Receipts: what the log promises the writer of an entry, signed, so that leaving it out is provable."""

from typing import Final

from compliance.canonical import canonical_bytes
from compliance.note import SignedNote
from platform_web.audit import selectors, services
from platform_web.audit.models import AuditEvent
from platform_web.audit.signing import signer

WITHIN_S: Final = 60  # the longest that an entry waits for its place (goal G4)


def receipt_of(event: AuditEvent) -> SignedNote:
    """``index`` is null until the entry has its place; then a proof is the better receipt.

    Raises SignerError: the signer is away, or has signed nothing of this year's log yet.
    """
    place = selectors.place_of(event)
    year = place.shard if place else event.ts.year
    promise = {
        "id": str(event.event_id),
        "leaf_hash": bytes(event.leaf_hash).hex(),
        "ts": services.stamp(event.ts),
        "index": place.idx if place else None,
        "within_s": WITHIN_S,
    }
    return signer().sign_receipt(selectors.origin_of(year), canonical_bytes(promise).decode() + "\n")
