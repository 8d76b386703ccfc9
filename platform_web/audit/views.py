"""The audit pages: finding entries, one with its proof, checking. Whoever reads is an entry too."""

import json
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from compliance.events import EVENTS, kept_until
from platform_web.audit import (
    bodies,
    checking,
    deadlines,
    exports,
    redaction,
    selectors,
    services,
    verification,
)
from platform_web.audit.errors import RedactionError
from platform_web.audit.forms import SelectionForm
from platform_web.audit.models import AuditEvent, AuditRedaction, AuditSeq
from platform_web.audit.standing import standing

PAGE = 50
SEARCH_S = 20.0


@require_GET
def entries(request: HttpRequest) -> HttpResponse:
    """Newest first, a page from the entry before which it begins: no page costs more the older it is."""
    form = SelectionForm(request.GET)
    events = form.selection().events() if form.is_valid() else AuditEvent.objects.none()
    if form.is_valid() and not form.shows_readings():
        events = events.exclude(act="log.read")
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        events = events.filter(number__lt=int(before))
    _record_reading(request)
    with deadlines.patience(SEARCH_S):
        found = list(events[: PAGE + 1])
        rows, more = _rows(found[:PAGE]), len(found) > PAGE
    query = request.GET.copy()
    query.pop("before", None)
    context = {
        "rows": rows,
        "form": form,
        "acts": sorted(EVENTS),
        "query": query.urlencode(),
        "older": found[PAGE - 1].number if more else None,
        "is_newest": not before,
        "standing": standing(),
    }
    return render(request, "audit/entries.html", context, status=200 if form.is_valid() else 422)


def _rows(events: list[AuditEvent]) -> list[dict[str, Any]]:
    """With place in the tree, and the user names of this page; the log itself holds numbers only."""
    keys = {event.actor.removeprefix("user:") for event in events if event.actor.startswith("user:")}
    people = {f"user:{person.pk}": person.get_username() for person in User.objects.filter(pk__in=keys)}
    places = {place.event_id: place.idx for place in AuditSeq.objects.filter(event__in=events)}
    return [
        {
            "event": event,
            "who": people.get(event.actor, event.actor.partition(":")[2]),
            "index": places.get(event.number),
        }
        for event in events
    ]


@transaction.atomic
def _record_reading(request: HttpRequest, event: AuditEvent | None = None) -> None:
    """Before anything is read at leisure: when this cannot be written in time, nothing is shown."""
    read = [("entry", str(event.event_id), bytes(event.leaf_hash).hex())] if event else []
    services.record(
        act="log.read", actor=cast("User", request.user), obj=read, data={"rows": 1 if event else PAGE}
    )


@require_GET
def entry(request: HttpRequest, event_id: str) -> HttpResponse:
    event = get_object_or_404(AuditEvent, event_id=event_id)
    _record_reading(request, event)
    envelope = json.loads(bytes(event.leaf))
    place = selectors.place_of(event)
    head = exports.head_for(place) if place else None
    commitment = envelope.get("body_c", "")
    context = {
        "event": event,
        "text": json.dumps(envelope, indent=2, ensure_ascii=False),
        "leaf_hash": bytes(event.leaf_hash).hex(),
        "place": place,
        "head": head,
        "proof": selectors.proof(place, head) if place and head else None,
        "cosigners": checking.cosigners(head) if head else [],
        "commitment": commitment,
        "body": bodies.body_of(event, commitment) if commitment else None,
        "asked": AuditRedaction.objects.filter(
            event_id=event_id, confirmed_at=None, withdrawn_at=None
        ).first(),
        "bases": AuditRedaction.Basis,
        "kept_until": kept_until(event.act, event.ts),
    }
    return render(request, "audit/entry.html", context)


@require_POST
def verify_entry(request: HttpRequest, event_id: str) -> HttpResponse:
    """One entry, from its bytes to the sites' signatures; each step is shown."""
    event = get_object_or_404(AuditEvent, event_id=event_id)
    steps = checking.steps_of(event)
    wrong = any(step.ok is False for step in steps)
    holds = all(step.ok for step in steps)  # neither, while no signed head holds the entry
    _record_check(request, entries=1, verified=int(holds), holds=not wrong)
    said = {"steps": steps, "holds": holds, "wrong": wrong, "event": event}
    return render(request, "audit/steps.html", said)


@require_POST
def verify(request: HttpRequest) -> HttpResponse:
    """Check the whole log against itself. One entry says that somebody began, another what was found."""
    _record_reading(request)
    with deadlines.patience(SEARCH_S):
        result = verification.verify_all()
    _record_check(request, entries=result.entries, verified=result.verified, holds=result.is_whole)
    said = {"entries": result.entries, "verified": result.verified, "heads": result.heads}
    if request.headers.get("HX-Request"):
        return render(request, "audit/verified.html", said | {"result": result})
    return JsonResponse(said | {"findings": result.findings})


@transaction.atomic
def _record_check(request: HttpRequest, *, entries: int, verified: int, holds: bool) -> None:
    services.record(
        act="log.verified",
        actor=cast("User", request.user),
        out="ok" if holds else "error",
        data={"entries": entries, "verified": verified},
    )


@require_POST
def request_redaction(request: HttpRequest, event_id: str) -> HttpResponse:
    event = get_object_or_404(AuditEvent, event_id=event_id)
    try:
        redaction.request_redaction(
            actor=cast("User", request.user), event=event, basis=request.POST.get("basis", "")
        )
    except RedactionError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("The erasure waits for a second person."))
    return redirect("audit_entry", event_id=event_id)


@require_POST
def close_redaction(request: HttpRequest, pk: int) -> HttpResponse:
    """The second person confirms, or anybody withdraws."""
    asked = get_object_or_404(AuditRedaction, pk=pk)
    is_confirmed = request.POST.get("answer") == "confirm"
    close = redaction.confirm_redaction if is_confirmed else redaction.withdraw_redaction
    done = (
        _("Body and salt are erased; the entry stays.") if is_confirmed else _("The request was withdrawn.")
    )
    try:
        close(actor=cast("User", request.user), redaction=asked)
    except RedactionError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return redirect("audit_entry", event_id=asked.event_id)
