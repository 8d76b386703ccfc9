"""Whether a site may take part: suspend and resume at once, revoke with a second administrator."""

from collections.abc import Callable
from typing import cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from platform_web.accounts.models import Role
from platform_web.accounts.scope import role_required
from platform_web.federation import services
from platform_web.federation.errors import FederationError
from platform_web.federation.models import Revocation, Site


@require_POST
@role_required(Role.ADMINISTRATOR)
def suspend(request: HttpRequest, name: str) -> HttpResponse:
    site = _site(request, name)
    reason = request.POST.get("reason", "")
    return _do(
        request,
        site,
        lambda actor: services.suspend_site(actor=actor, site=site, reason=reason),
        _("%(site)s is suspended: its certificate does not count any more.") % {"site": site.title},
    )


@require_POST
@role_required(Role.ADMINISTRATOR)
def resume(request: HttpRequest, name: str) -> HttpResponse:
    site = _site(request, name)
    return _do(
        request,
        site,
        lambda actor: services.resume_site(actor=actor, site=site),
        _("%(site)s may take part again.") % {"site": site.title},
    )


@require_POST
@role_required(Role.ADMINISTRATOR)
def request_revocation(request: HttpRequest, name: str) -> HttpResponse:
    site = _site(request, name)
    reason = request.POST.get("reason", "")
    return _do(
        request,
        site,
        lambda actor: services.request_revocation(actor=actor, site=site, reason=reason),
        _("The revocation waits for a second administrator."),
    )


@require_POST
@role_required(Role.ADMINISTRATOR)
def confirm_revocation(request: HttpRequest, pk: int) -> HttpResponse:
    revocation = _revocation(request, pk)
    return _do(
        request,
        revocation.site,
        lambda actor: services.confirm_revocation(actor=actor, revocation=revocation),
        _("The certificates of %(site)s are revoked.") % {"site": revocation.site.title},
    )


@require_POST
@role_required(Role.ADMINISTRATOR)
def withdraw_revocation(request: HttpRequest, pk: int) -> HttpResponse:
    revocation = _revocation(request, pk)
    return _do(
        request,
        revocation.site,
        lambda actor: services.withdraw_revocation(actor=actor, revocation=revocation),
        _("The request was withdrawn; nothing changed for the site."),
    )


def _do(request: HttpRequest, site: Site, act: Callable[[User], object], done: str) -> HttpResponse:
    try:
        act(cast("User", request.user))
    except FederationError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return redirect("site", name=site.name)


def _site(request: HttpRequest, name: str) -> Site:
    return get_object_or_404(Site.objects.for_user(request.user), name=name)


def _revocation(request: HttpRequest, pk: int) -> Revocation:
    return get_object_or_404(Revocation.objects.for_user(request.user).select_related("site"), pk=pk)
