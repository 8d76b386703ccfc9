"""Writing entries."""

import hashlib
import hmac
import json
import unicodedata
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, cast

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection
from django.utils import timezone

from compliance import merkle
from compliance.canonical import CanonicalError, canonical_bytes, parse_canonical
from compliance.envelope import read_envelope
from compliance.events import check_event
from platform_web.audit import bodies, storage
from platform_web.audit.errors import AuditError
from platform_web.audit.models import AuditEvent

ActorType = Literal["user", "site", "system"]
Outcome = Literal["ok", "deny", "error"]
Object = tuple[str, str, str]  # type, id, digest ("" where there is none)


def record(
    *,
    act: str,
    actor: AbstractBaseUser | None = None,
    actor_type: ActorType | None = None,
    site: str = "",
    obj: Iterable[Object] = (),
    out: Outcome = "ok",
    run: str = "",
    round: int | None = None,
    data: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
) -> AuditEvent:
    """Write one entry in the caller's transaction: it is there exactly when the effect is there.

    ``act`` and the keys of ``data`` stand in ``compliance.events``; no floats. ``body``: what may have to be
    erased one day, such as a reason that somebody typed; the entry holds its commitment only. Raises
    AuditError outside a transaction and for an entry that has no canonical form, so that the effect does not
    happen either.
    """
    if not connection.in_atomic_block:
        raise AuditError("An audit entry is written inside the transaction of what it witnesses.")
    kind: ActorType = actor_type or ("user" if actor is not None else "site" if site else "system")
    sealed = bodies.seal(_normal(body)) if body else None
    envelope = _envelope(
        act=act,
        actor={"type": kind, "id": _actor_id(kind, actor, site), "roles": _roles(actor)},
        site=site,
        obj=[{"type": type_, "id": str(id_), "digest": digest} for type_, id_, digest in obj],
        out=out,
        job=run,
        rnd=round,
        data=data,
        body_c=sealed.commitment if sealed else "",
    )
    event = _insert(_leaf(envelope), envelope)
    if sealed:
        bodies.keep(event, sealed)
    return event


def draft(*, act: str, site: str = "", out: Outcome = "ok", data: dict[str, Any] | None = None) -> bytes:
    """The canonical bytes of a new entry of the portal itself, with id and time.

    Needs no database. Raises AuditError for an entry that is not declared or has no canonical form.
    """
    return _leaf(_envelope(act=act, site=site, out=out, data=data))


def insert(leaf: bytes) -> AuditEvent:
    """Put the bytes that ``draft`` made into the log, in the caller's transaction.

    Raises CanonicalError for bytes that no verifier could read.
    """
    read_envelope(leaf)
    return _insert(leaf, json.loads(leaf))


def _envelope(
    *,
    act: str,
    actor: dict[str, Any] | None = None,
    site: str = "",
    obj: Iterable[dict[str, str]] = (),
    out: Outcome = "ok",
    job: str = "",
    rnd: int | None = None,
    data: dict[str, Any] | None = None,
    body_c: str = "",
) -> dict[str, Any]:
    """A new entry, its texts in Unicode normal form C."""
    envelope: dict[str, Any] = {
        "v": 1,
        "id": str(uuid.uuid4()),
        "ts": stamp(timezone.now()),
        "log": settings.CONSILIUM_FEDERATION,
        "site": site,
        "actor": actor or {"type": "system", "id": _actor_id("system", None, ""), "roles": []},
        "act": act,
        "out": out,
        "obj": list(obj),
        "job": job,
        "rnd": rnd,
        "data": data or {},
    }
    if body_c:
        envelope["body_c"] = body_c
    return cast("dict[str, Any]", _normal(envelope))


def _leaf(envelope: dict[str, Any]) -> bytes:
    try:
        check_event(envelope["act"], envelope["data"])
        return canonical_bytes(envelope)
    except CanonicalError as error:
        raise AuditError(f"The audit entry {envelope['act']!r} cannot be written: {error}") from error


def _insert(leaf: bytes, envelope: dict[str, Any]) -> AuditEvent:
    """``leaf``: the canonical bytes of ``envelope``."""
    row = storage.EventRow(
        event_id=uuid.UUID(envelope["id"]),
        leaf=leaf,
        leaf_hash=merkle.leaf_hash(leaf),
        ts=datetime.fromisoformat(envelope["ts"]),
        org="",
        **columns(envelope),
    )
    return storage.insert_event(row)


def envelope_of(event: AuditEvent) -> dict[str, Any]:
    """What was written. Raises CanonicalError for bytes that were altered."""
    envelope: Any = parse_canonical(bytes(event.leaf))
    return cast("dict[str, Any]", envelope)


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def pseudonym(kind: str, value: str) -> str:
    """HMAC-SHA-256 under a key of this portal: who has the key can look a person up, others cannot."""
    key = hmac.digest(settings.CONSILIUM_MASTER_KEY, b"consilium audit pseudonym", "sha256")
    return hmac.new(key, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()[:32]


def columns(envelope: dict[str, Any]) -> dict[str, str]:
    """The columns people filter by; the bytes are what counts."""
    actor, objects = envelope["actor"], envelope["obj"]
    return {
        "site": envelope["site"],
        "act": envelope["act"],
        "actor": f"{actor['type']}:{actor['id']}"[:200],
        "obj": " ".join(f"{item['type']}:{item['id']}" for item in objects)[:400],
        "job": envelope["job"],
    }


def _actor_id(kind: ActorType, actor: AbstractBaseUser | None, site: str) -> str:
    if kind == "user":
        if actor is None or actor.pk is None:
            raise AuditError("An act of a person needs the person.")
        return str(actor.pk)
    return site if kind == "site" else "portal"


def _roles(actor: AbstractBaseUser | None) -> list[str]:
    groups = getattr(actor, "groups", None)
    return sorted(groups.values_list("name", flat=True)) if groups is not None else []


def _normal(value: Any) -> Any:
    """Texts in Unicode normal form C, as the canonical profile asks."""
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    return value
