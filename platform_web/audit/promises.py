"""What the log promised by receipts: the proof that it was kept, and complaints that it was not."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compliance.canonical import CanonicalError, parse_canonical
from compliance.merkle import inclusion_proof
from compliance.note import NoteError, SignedNote, VerifierKey, verify
from platform_web.audit import selectors, services
from platform_web.audit.errors import UnfitError
from platform_web.audit.models import AuditEvent, AuditSeq

MOST = 1000  # complaints that are looked at; each is an entry of its own


def inclusion(*, site: str, event_id: str, year: int, size: int) -> tuple[int, list[bytes], bytes] | None:
    """Index, proof and bytes of the site's own entry in the tree of ``size``; None when it is not in it."""
    place = AuditSeq.objects.filter(event__event_id=event_id, event__site=site, shard=year, idx__lt=size)
    found = place.select_related("event").first()
    if found is None or size > selectors.sequenced_size(year):
        return None
    proof = inclusion_proof(selectors.subtree(year, size), found.idx, size)
    return found.idx, proof, bytes(found.event.leaf)


@transaction.atomic
def complain(*, site: str, receipt: str) -> bool:
    """Write down that a site holds a receipt for an entry that is not in the log; False when nothing is new.

    Raises UnfitError for what this log did not sign, and before the time that it promised is over.
    """
    promise = _promise_of(receipt)
    late = datetime.fromisoformat(promise["ts"]) + timedelta(seconds=promise["within_s"])
    if timezone.now() < late:
        raise UnfitError(_("The time within which the log promised the entry is not over yet."))
    obj = f"entry:{promise['id']}"
    if _is_kept(promise["id"]) or AuditEvent.objects.filter(act="log.promise_missed", obj=obj).exists():
        return False
    services.record(
        act="log.promise_missed",
        site=site,
        out="error",
        obj=[("entry", promise["id"], promise["leaf_hash"])],
        data={"promised": promise["ts"]},
    )
    return True


def unkept() -> int:
    """Entries that a site has a receipt for and that no signed head holds now."""
    said = AuditEvent.objects.filter(act="log.promise_missed").values_list("obj", flat=True)[:MOST]
    return sum(not _is_kept(obj.removeprefix("entry:")) for obj in said)


def _is_kept(event_id: str) -> bool:
    place = AuditSeq.objects.filter(event__event_id=event_id).first()
    head = selectors.latest_head(place.shard) if place else None
    return place is not None and head is not None and place.idx < head.size


def _promise_of(receipt: str) -> dict[str, Any]:
    try:
        note = SignedNote.parse(receipt)
        promise = parse_canonical(note.text.removesuffix("\n").encode())
        is_signed = any(_is_ours(note, VerifierKey.parse(shard.key)) for shard in selectors.shards())
    except (NoteError, CanonicalError, UnicodeEncodeError):
        is_signed, promise = False, None
    if not is_signed or not isinstance(promise, dict):
        raise UnfitError(_("This is no receipt of the portal's log."))
    return promise


def _is_ours(note: SignedNote, key: VerifierKey) -> bool:
    """Raises NoteError for a line of this key that does not fit."""
    lines = [line for line in note.signatures if (line.name, line.key_id) == (key.name, key.key_id)]
    for line in lines:
        verify(note.text, line, key)
    return bool(lines)
