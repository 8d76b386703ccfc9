"""Checks of the audit log: does it say what was written, who vouches for it, can it be changed."""

from django.db import connection

from platform_web.audit import triggers
from platform_web.audit.models import AuditEvent, AuditEvidence
from platform_web.audit.retention import removed_too_early
from platform_web.audit.verification import is_intact
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.control import Finding

INSTALLED = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') AND NOT tgisinternal",
}


def witness_quorum(case: Case) -> Finding:
    """Of the checkpoint in the pack. Where no site witnesses nobody but the platform vouches for the log."""
    policy, note = case.policy, case.note
    signers = policy.signers(note) if policy is not None and note is not None else {}
    facts = {"signers": len(signers), "sites": len(policy.witnesses) if policy else 0}
    met = policy is not None and policy.quorum != "none" and policy.is_met_by(set(signers))
    return Finding(met, facts)


def entries_proven(case: Case) -> Finding:
    """Under a checkpoint that the log signed."""
    entries, proven = len(case.entries), len(case.places)
    return Finding(0 < entries == proven, {"entries": entries, "unproven": entries - proven})


def entries_intact(case: Case) -> Finding:
    """Bytes, hash, columns, and the hash that the tree was made of."""
    placed = {place.event_id: bytes(place.leaf_hash) for place in case.places}
    altered = sum(not _is_intact(event, placed) for event in case.entries)
    return Finding(bool(case.entries) and not altered, {"entries": len(case.entries), "altered": altered})


def one_history(case: Case) -> Finding:  # noqa: ARG001 - one signature for all checks
    """A contradiction is kept only when two signed checkpoints prove it."""
    found = AuditEvidence.objects.count()
    return Finding(found == 0, {"contradictions": found})


def log_kept(case: Case) -> Finding:  # noqa: ARG001
    """The retention floors: the database refuses to remove anything below them, and nothing of it is gone."""
    with connection.cursor() as cursor:
        cursor.execute(INSTALLED[connection.vendor])
        there = {name for (name,) in cursor.fetchall()}
    unguarded = [
        table for table in triggers.TABLES if not triggers.names_of(table, connection.vendor) <= there
    ]
    oldest = AuditEvent.objects.order_by("number").values_list("ts", flat=True).first()
    removed = removed_too_early()
    facts: dict[str, int | str] = {
        "tables": len(triggers.TABLES),
        "unguarded": ", ".join(unguarded) or "–",
        "entries": removed.entries,
        "bodies": removed.bodies,
        "since": oldest.date().isoformat() if oldest else "–",
    }
    return Finding(not (unguarded or removed.entries or removed.bodies), facts)


def _is_intact(event: AuditEvent, placed: dict[int, bytes]) -> bool:
    stored = bytes(event.leaf_hash)
    return is_intact(event) and placed.get(event.number, stored) == stored
