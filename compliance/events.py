"""The registry of audit acts: what may stand in ``data`` of each, so that nothing personal slips in.

Acts are named ``thing.past-tense``; names end up in a log that is never erased. What a person typed freely
belongs into an entry's body, which can be erased, not into ``data``.
"""

import re
from datetime import datetime, timedelta
from typing import Final, Literal

from compliance.canonical import CanonicalError

ACT = re.compile(r"[a-z][a-z_]{1,30}\.[a-z][a-z_]{1,30}")

EVENTS: dict[str, frozenset[str]] = {
    "platform.set_up": frozenset({"fingerprint"}),
    "person.added": frozenset({"role"}),
    "person.deactivated": frozenset({"role"}),
    "person.signed_in": frozenset(),
    "person.signed_out": frozenset(),
    "person.password_changed": frozenset(),
    "person.password_reset": frozenset(),
    "person.sign_in_refused": frozenset({"subject"}),
    "person.factor_enrolled": frozenset({"codes"}),
    "person.factor_removed": frozenset(),
    "person.factor_reset": frozenset(),
    "person.factor_accepted": frozenset(),
    "person.factor_refused": frozenset(),
    "person.recovery_codes_made": frozenset({"codes"}),
    "person.recovery_code_used": frozenset({"left"}),
    "site.invited": frozenset({"title", "organisation", "zone", "expires"}),
    "site.suspended": frozenset(),
    "site.resumed": frozenset(),
    "site.twin_seen": frozenset(),
    "kit.issued": frozenset({"expires"}),
    "kit.fetched": frozenset(),
    "site.left": frozenset(),
    "kit.pin_failed": frozenset({"failures"}),
    "kit.locked": frozenset({"failures"}),
    "certificate.issued": frozenset({"not_after"}),
    "certificate.renewed": frozenset({"not_after", "renewal_of"}),
    "certificate.replaced": frozenset(),
    "certificate.revoked": frozenset({"requested_by"}),
    "revocation.requested": frozenset(),
    "revocation.withdrawn": frozenset(),
    "dataset.reported": frozenset({"rows", "datasets"}),
    "dataset.withdrawn": frozenset({"datasets"}),
    "request.refused": frozenset({"url", "done"}),
    "request.denied": frozenset({"url"}),
    "witness.registered": frozenset({"key", "retired"}),
    "site.anchored": frozenset({"size", "note"}),
    "site.anchor_refused": frozenset({"size", "note", "anchored"}),
    "log.contradicted": frozenset({"kind", "size"}),
    "log.promise_missed": frozenset({"promised"}),
    "log.entry_altered": frozenset(),
    "log.exported": frozenset({"act", "site", "job"}),
    "log.redacted": frozenset({"basis", "requested_by"}),
    "log.redaction_asked": frozenset({"basis"}),
    "log.redaction_withdrawn": frozenset(),
    "log.read": frozenset({"rows"}),
    "log.alarm": frozenset({"reason", "said"}),
    "log.shard_opened": frozenset({"origin", "size", "root"}),
    "log.verified": frozenset({"entries", "verified"}),
}


Class = Literal["operation", "processing", "clinical"]
FLOORS: Final[dict[Class, timedelta]] = {  # before this much time an entry and its body stay
    "operation": timedelta(days=180),  # China's CSL and the EU AI Act, article 26 (6): six months of logs
    "processing": timedelta(days=3 * 366),  # PIPL, article 56: three years of records of processing
    "clinical": timedelta(days=6 * 366),  # HIPAA 164.316 (b) (2): six years of documentation
}
CLASSES: Final[dict[str, Class]] = {  # by the first word of an act; what is not named here is "processing"
    **dict.fromkeys(("request", "person", "witness"), "operation"),
    **dict.fromkeys(("model", "ticket", "policy", "log"), "clinical"),
}


def retention_class(act: str) -> Class:
    """How long an act's entry is kept at least, as a class of ``FLOORS``."""
    return CLASSES.get(act.partition(".")[0], "processing")


def kept_until(act: str, ts: datetime) -> datetime:
    """The moment before which the entry of ``ts`` and its body must not be removed for age."""
    return ts + FLOORS[retention_class(act)]


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
