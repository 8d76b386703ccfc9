"""Pages of sites and kits. The kit's own page is public: whoever holds the one-time link may open it."""

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import Sum
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.timezone import now
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from platform_web.accounts.models import Role
from platform_web.accounts.scope import has_role, role_required
from platform_web.federation import invitation_text, kit_files, selectors, services
from platform_web.federation.errors import (
    FederationError,
    KitLinkUnknownError,
    KitNotReadyError,
    PinWrongError,
)
from platform_web.federation.forms import PinForm, SiteForm
from platform_web.federation.models import Kit, Site

UNPROCESSABLE, GONE, NOT_FOUND = 422, 410, 404
VIEWERS = (Role.ADMINISTRATOR, Role.DATA_SCIENTIST, Role.AUDITOR, Role.SITE_OPERATOR)


def _rows(request: HttpRequest) -> list[dict[str, Any]]:
    """The sites this person may see, as the page and its script read them."""
    moment = now()
    sites = Site.objects.for_user(request.user).annotate(data_rows=Sum("datasets__rows"))
    return [
        {
            "site": site,
            "name": site.name,
            "online": site.is_online(moment),
            "missing": site.missing(moment),
            "rows": site.data_rows or 0,
            "datasets": list(site.datasets.all()),
            "agent": site.heartbeat.get("agent_version", ""),
            "days_left": site.heartbeat.get("certificate_days_left"),
        }
        for site in sites.prefetch_related("datasets", "certificates").order_by("name")
    ]


@require_GET
@role_required(*VIEWERS)
def sites(request: HttpRequest) -> HttpResponse:
    rows = _rows(request)
    may_add = has_role(request.user, Role.ADMINISTRATOR)
    waiting = selectors.open_revocations() if may_add else []
    context = {"rows": rows, "may_add": may_add, "waiting": waiting}
    return render(request, "federation/sites.html", context)


@require_GET
@role_required(*VIEWERS)
def site_cards(request: HttpRequest) -> HttpResponse:
    """The cards alone; htmx asks for them every three seconds."""
    return render(request, "federation/site_cards.html", {"rows": _rows(request)})


@require_GET
@role_required(*VIEWERS)
def status(request: HttpRequest) -> JsonResponse:
    answer = [
        {
            "name": row["name"],
            "title": row["site"].title,
            "status": row["site"].status,
            "online": row["online"],
            "missing": row["missing"],
            "rows": row["rows"],
            "datasets": [
                {"name": card.name, "kind": card.kind, "rows": card.rows} for card in row["datasets"]
            ],
            "inference_url": row["site"].inference_url,
        }
        for row in _rows(request)
    ]
    return JsonResponse({"sites": answer})


@require_http_methods(["GET", "POST"])
@role_required(Role.ADMINISTRATOR)
def add_site(request: HttpRequest) -> HttpResponse:
    form = SiteForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            invitation = services.invite_site(actor=cast("User", request.user), **form.cleaned_data)
        except FederationError as error:
            form.add_error("name", str(error))
        else:
            return _show_invitation(request, invitation)
    return render(
        request, "federation/site_form.html", {"form": form}, status=UNPROCESSABLE if form.is_bound else 200
    )


def _show_invitation(request: HttpRequest, invitation: services.Invitation) -> HttpResponse:
    """Link and PIN are shown in this answer and never again: only their hashes are kept."""
    context = {
        "site": invitation.site,
        "link": invitation_text.link_of(invitation.token),
        "pin": invitation_text.grouped_pin(invitation.pin),
        "fingerprint": invitation_text.root_fingerprint(),
        "mail": invitation_text.mail_text(invitation),
    }
    response = render(request, "federation/invitation.html", context)
    response["Cache-Control"] = "no-store"
    return response


@require_GET
@role_required(*VIEWERS)
def site(request: HttpRequest, name: str) -> HttpResponse:
    found = get_object_or_404(Site.objects.for_user(request.user), name=name)
    moment = now()
    context = {
        "site": found,
        "online": found.is_online(moment),
        "seen_by_flare": found.is_seen_by_flare(moment),
        "has_heartbeat": found.has_heartbeat(moment),
        "missing": found.missing(moment),
        "datasets": found.datasets.all(),
        "kits": Kit.objects.for_user(request.user).filter(site=found)[:5],
        "certificate": found.certificates.filter(revoked_at=None, replaced_at=None).first(),
        "waiting": found.revocations.filter(confirmed_at=None, withdrawn_at=None).first(),
        "twin": found.has_twin(moment),
        "may_add": has_role(request.user, Role.ADMINISTRATOR),
    }
    return render(request, "federation/site.html", context)


@require_POST
@role_required(Role.ADMINISTRATOR)
def new_kit(request: HttpRequest, name: str) -> HttpResponse:
    found = get_object_or_404(Site.objects.for_user(request.user), name=name)
    try:
        invitation = services.issue_kit(actor=cast("User", request.user), site=found)
    except FederationError as error:
        messages.error(request, str(error))
        return redirect("site", name=name)
    return _show_invitation(request, invitation)


@never_cache
@require_http_methods(["GET", "POST"])
def kit(request: HttpRequest, token: str) -> HttpResponseBase:
    """The sheet behind a one-time link, and the kit itself for who types the PIN."""
    form = PinForm(request.POST if request.method == "POST" else None)
    try:
        found = selectors.open_kit(token)
        if form.is_valid():
            return _hand_out(token, form.cleaned_data["pin"])
    except PinWrongError as error:
        form.add_error("pin", str(error))
    except KitNotReadyError as error:
        form.add_error(None, str(error))
    except FederationError as error:
        code = NOT_FOUND if isinstance(error, KitLinkUnknownError) else GONE
        return render(request, "federation/kit_refused.html", {"sentence": str(error)}, status=code)
    context = {
        "kit": found,
        "site": found.site,
        "form": form,
        "line": invitation_text.start_line(found.site, token),
        "fingerprint": invitation_text.root_fingerprint(),
    }
    status = UNPROCESSABLE if form.is_bound and not form.is_valid() else 200
    return render(request, "federation/kit_sheet.html", context, status=status)


def _hand_out(token: str, pin: str) -> FileResponse:
    taken, archive = kit_files.take_kit(token, pin)
    name = invitation_text.archive_name(taken.site)
    response = FileResponse(archive, as_attachment=True, filename=name, content_type="application/zip")
    response["Cache-Control"] = "no-store"
    return response
