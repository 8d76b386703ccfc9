"""What an auditor takes along to check the log without this portal: entries, proofs, policy, verifiers."""

from importlib.resources import files
from typing import cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from platform_web.audit import deadlines, exports, selectors, services
from platform_web.audit.errors import UnfitError
from platform_web.audit.forms import SelectionForm
from platform_web.audit.models import AuditEvent

EXPORT_S = 30.0
VERIFIERS = {"verify.py": "text/x-python", "verifier.html": "text/html"}


@require_GET
def bundle(request: HttpRequest) -> HttpResponse:
    """The entries of a selection with what proves them. Written down before it is handed out."""
    form, year = SelectionForm(request.GET), _year(request)
    if not form.is_valid() or year is None:
        messages.error(request, _("Nothing is signed yet, or the selection cannot be read."))
        return redirect("audit")
    selection = form.selection()
    with transaction.atomic():
        services.record(
            act="log.exported",
            actor=cast("User", request.user),
            data={"act": selection.act, "site": selection.site, "job": selection.job},
        )
    try:
        with deadlines.patience(EXPORT_S):
            text, _count = exports.bundle_of(selection, year)
    except UnfitError as error:
        messages.error(request, str(error))
        return redirect("audit")
    return _file(text.encode(), f"audit-{year}.bundle", "text/plain; charset=utf-8")


def _year(request: HttpRequest) -> int | None:
    """The tree asked for, the growing one by default."""
    asked, shard = request.GET.get("year", ""), selectors.current_shard()
    if asked.isascii() and asked.isdigit() and len(asked) == 4:
        return int(asked) if any(one.year == int(asked) for one in selectors.shards()) else None
    return shard.year if shard else None


@require_GET
def proof(request: HttpRequest, event_id: str) -> HttpResponse:
    """The proof of one entry (C2SP tlog-proof)."""
    event = _read(request, event_id)
    text = exports.proof_of(event)
    if text is None:
        raise Http404(_("No signed head holds this entry yet."))
    return _file(text.encode(), f"{event.event_id}.tlog-proof", "text/plain; charset=utf-8")


@require_GET
def entry_file(request: HttpRequest, event_id: str) -> HttpResponse:
    """The bytes that were hashed, exactly."""
    event = _read(request, event_id)
    return _file(bytes(event.leaf), f"{event.event_id}.json", "application/json")


@transaction.atomic
def _read(request: HttpRequest, event_id: str) -> AuditEvent:
    event = get_object_or_404(AuditEvent, event_id=event_id)
    read = [("entry", str(event.event_id), bytes(event.leaf_hash).hex())]
    services.record(act="log.read", actor=cast("User", request.user), obj=read, data={"rows": 1})
    return event


@require_GET
def policy(request: HttpRequest) -> HttpResponse:
    """Whose signatures count. An auditor compares it with what the sites say of their own keys."""
    year = _year(request)
    if year is None:
        raise Http404(_("Nothing is signed yet."))
    return _file(str(selectors.witness_policy(year)).encode(), "policy.txt", "text/plain; charset=utf-8")


@require_GET
def verifier(request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG001 - a view
    """One of the two programs that check bundles on a machine of one's own."""
    source = files("compliance") / name
    if name not in VERIFIERS or not source.is_file():
        raise Http404(name)
    return _file(source.read_bytes(), name, VERIFIERS[name])


def _file(content: bytes, name: str, content_type: str) -> HttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return HttpResponse(content, content_type=content_type, headers=headers)
