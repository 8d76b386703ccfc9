"""The registry of audit acts: what may stand in ``data`` of each, so that nothing personal slips in.

Acts are named ``thing.past-tense``; names end up in a log that is never erased.
"""

import re

from compliance.canonical import CanonicalError

ACT = re.compile(r"[a-z][a-z_]{1,30}\.[a-z][a-z_]{1,30}")

EVENTS: dict[str, frozenset[str]] = {
    "platform.set_up": frozenset({"fingerprint"}),
    "person.added": frozenset({"role"}),
    "person.deactivated": frozenset({"role"}),
    "person.signed_in": frozenset(),
    "person.signed_out": frozenset(),
    "person.sign_in_refused": frozenset({"subject"}),
    "site.invited": frozenset({"title", "organisation", "zone", "expires"}),
    "site.suspended": frozenset({"reason"}),
    "site.resumed": frozenset({"reason"}),
    "site.twin_seen": frozenset(),
    "kit.issued": frozenset({"expires"}),
    "kit.fetched": frozenset(),
    "site.left": frozenset(),
    "kit.pin_failed": frozenset({"failures"}),
    "kit.locked": frozenset({"failures"}),
    "certificate.issued": frozenset({"not_after"}),
    "certificate.renewed": frozenset({"not_after", "renewal_of"}),
    "certificate.replaced": frozenset(),
    "certificate.revoked": frozenset({"reason", "requested_by"}),
    "revocation.requested": frozenset({"reason"}),
    "revocation.withdrawn": frozenset(),
    "dataset.reported": frozenset({"rows", "datasets"}),
    "dataset.withdrawn": frozenset({"datasets"}),
    "person.password_changed": frozenset(),
    "request.refused": frozenset({"url", "done"}),
    "request.denied": frozenset({"url"}),
    "witness.registered": frozenset({"key", "retired"}),
    "site.anchored": frozenset({"size", "note"}),
    "site.anchor_refused": frozenset({"size", "note", "anchored"}),
    "log.contradicted": frozenset({"kind", "size"}),
    "log.exported": frozenset({"rows", "act", "site", "job"}),
    "log.read": frozenset({"rows"}),
    "log.alarm": frozenset({"reason", "said"}),
    "log.shard_opened": frozenset({"origin", "size", "root"}),
    "log.verified": frozenset({"entries", "verified"}),
}


def register(act: str, keys: frozenset[str] = frozenset()) -> None:
    """Declare an act of a higher app and the keys its ``data`` may have. Raises ValueError for a bad name.

    An app does so in its ``acts.py``, once, at import; two meanings of one act are refused.
    """
    if not ACT.fullmatch(act):
        raise ValueError(f"An audit act is named like kit.issued, not {act!r}.")
    if EVENTS.setdefault(act, frozenset(keys)) != frozenset(keys):
        raise ValueError(f"The audit act {act!r} is declared twice, with different keys.")


def check_event(act: str, data: dict[str, object]) -> None:
    """Raises CanonicalError for an act that is not declared or a key that its declaration lacks."""
    if act not in EVENTS:
        raise CanonicalError(f"The act {act!r} is not declared in compliance.events.")
    if surplus := set(data) - EVENTS[act]:
        raise CanonicalError(f"{act} may not carry {', '.join(sorted(surplus))}.")
