"""Pages of sites and kits. The kit's own page is public: whoever holds the one-time link may open it."""

from typing import Any, cast

from django.conf import settings
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
from platform_web.federation import kit_files, selectors, services
from platform_web.federation.errors import FederationError, KitLinkUnknownError, KitNotReadyError
from platform_web.federation.forms import SiteForm
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
            return _show_link(request, invitation)
    return render(
        request, "federation/site_form.html", {"form": form}, status=UNPROCESSABLE if form.is_bound else 200
    )


def _show_link(request: HttpRequest, invitation: services.Invitation) -> HttpResponse:
    """The link is shown in this answer and never again: only its hash is kept."""
    link = f"{settings.CONSILIUM_WEB_ORIGIN}{invitation.path}"
    response = render(
        request, "federation/kit_link.html", {"site": invitation.site, "kit": invitation.kit, "link": link}
    )
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
    return _show_link(request, invitation)


@never_cache
@require_http_methods(["GET", "POST"])
def kit(request: HttpRequest, token: str) -> HttpResponseBase:
    """The sheet behind a one-time link, and the kit itself once its button is pressed."""
    try:
        found = selectors.open_kit(token)
        if request.method == "POST":
            return _hand_out(token)
    except KitNotReadyError:
        return render(request, "federation/kit_sheet.html", {"kit": found, "site": found.site})
    except FederationError as error:
        code = NOT_FOUND if isinstance(error, KitLinkUnknownError) else GONE
        return render(request, "federation/kit_refused.html", {"sentence": str(error)}, status=code)
    return render(request, "federation/kit_sheet.html", {"kit": found, "site": found.site})


def _hand_out(token: str) -> FileResponse:
    taken, archive = kit_files.take_kit(token)
    name = f"consilium-kit-{taken.site.name}.zip"
    response = FileResponse(archive, as_attachment=True, filename=name, content_type="application/zip")
    response["Cache-Control"] = "no-store"
    return response
