"""The first page, by role, and the small doors that belong to nobody else."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from platform_web.accounts.models import Role
from platform_web.accounts.scope import role_of, role_required
from platform_web.audit.models import AuditEvent
from platform_web.audit.standing import standing
from platform_web.federation.models import Site
from platform_web.registry import selectors as registry
from platform_web.training import selectors as training

EVERYBODY = tuple(Role)


@require_GET
@role_required(*EVERYBODY)
def home(request: HttpRequest) -> HttpResponse:
    role = role_of(request.user)
    if role == Role.CLINICIAN:
        return redirect("clinic")
    moment = now()
    sites = list(Site.objects.for_user(request.user).order_by("name"))
    runs = training.runs_for(request.user)
    context: dict[str, Any] = {
        "role": role,
        "sites": [
            {"site": site, "online": site.is_online(moment), "missing": site.missing(moment)}
            for site in sites
        ],
        "online": sum(site.is_online(moment) for site in sites),
        "runs": runs[:5],
        "active": sum(not run.is_final for run in runs),
        "studies": training.studies_for(request.user).count(),
        "serving": len(registry.active_promotions(request.user)),
        "next_steps": _next_steps(role, has_sites=bool(sites)),
    }
    if role in {Role.ADMINISTRATOR, Role.AUDITOR}:
        context["events"] = AuditEvent.objects.exclude(act="log.read").order_by("-number")[:6]
        context["standing"] = standing()
    return render(request, "pages/home.html", context)


def _next_steps(role: Role | None, *, has_sites: bool) -> list[tuple[str, str, str]]:
    """(sentence, name of the URL, what its button says)."""
    if role == Role.ADMINISTRATOR:
        first = _("Add the first hospital or province: you get a one-time link for its operator.")
        again = _("Invite another site: nothing has to be restarted.")
        return [
            (again if has_sites else first, "add_site", _("Add a site")),
            (
                _("Give a person one role; clinicians and operators belong to a site."),
                "add_person",
                _("Add a person"),
            ),
        ]
    if role == Role.DATA_SCIENTIST:
        return [
            (
                _("Open a study: purpose, data and labels, fixed for all its runs."),
                "add_study",
                _("Open a study"),
            ),
            (
                _("Start a run: sites train together and keep their personal part."),
                "add_run",
                _("Start a run"),
            ),
        ]
    if role == Role.AUDITOR:
        return [(_("Recompute the hash of every entry."), "audit", _("Open the audit log"))]
    return [(_("See what serves at your site and what it took part in."), "models", _("Models in use"))]


@require_GET
def health(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - a view
    """For supervision: the process answers. Says nothing else to anybody."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_GET
def admin_login(request: HttpRequest) -> HttpResponseBase:
    """The admin has no sign-in of its own, so that none of its ways in passes ours by."""
    if request.user.is_authenticated:
        return redirect("home")
    target = request.GET.get("next", "/admin/")
    return redirect(f"/accounts/login/?next={target}" if target.startswith("/admin/") else "/accounts/login/")
