"""The audit pages: reading entries and checking that none was altered."""

import json
from typing import Any, cast

from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET, require_POST

from platform_web.audit import services
from platform_web.audit.models import AuditEvent

PAGE = 50


def _filtered(request: HttpRequest) -> tuple[Any, dict[str, str]]:
    wanted = {name: request.GET.get(name, "").strip()[:100] for name in ("act", "site", "job")}
    events = AuditEvent.objects.order_by("-number")
    for name, value in wanted.items():
        if value:
            events = events.filter(**{name: value})
    return events, wanted


@require_GET
def entries(request: HttpRequest) -> HttpResponse:
    events, wanted = _filtered(request)
    page = Paginator(events, PAGE).get_page(request.GET.get("page"))
    acts = AuditEvent.objects.order_by("act").values_list("act", flat=True).distinct()
    people = _names(page.object_list)
    rows = [
        {"event": event, "who": people.get(event.actor, event.actor.partition(":")[2])}
        for event in page.object_list
    ]
    context = {"page": page, "rows": rows, "wanted": wanted, "acts": acts}
    return render(request, "audit/entries.html", context)


def _names(events: Any) -> dict[str, str]:
    """User names of the actors on this page; the log itself holds numbers only."""
    keys = {event.actor.removeprefix("user:") for event in events if event.actor.startswith("user:")}
    return {f"user:{person.pk}": person.get_username() for person in User.objects.filter(pk__in=keys)}


@require_GET
def entry(request: HttpRequest, event_id: str) -> HttpResponse:
    event = get_object_or_404(AuditEvent, event_id=event_id)
    text = json.dumps(json.loads(bytes(event.leaf)), indent=2, ensure_ascii=False)
    context = {"event": event, "text": text, "leaf_hash": bytes(event.leaf_hash).hex()}
    return render(request, "audit/entry.html", context)


@require_POST
def verify(request: HttpRequest) -> HttpResponse:
    """Recompute every leaf hash. The check is itself an entry, written after it has counted."""
    counted, verified = services.verify_all()
    with transaction.atomic():
        services.record(
            act="log.verified",
            actor=cast("User", request.user),
            out="ok" if counted == verified else "error",
            data={"entries": counted, "verified": verified},
        )
    if request.headers.get("HX-Request"):
        return render(request, "audit/verified.html", {"entries": counted, "verified": verified})
    return JsonResponse({"entries": counted, "verified": verified})
