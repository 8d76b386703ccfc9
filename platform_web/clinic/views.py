"""The clinician's page and the door that gives tickets."""

from typing import Any, cast

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from platform_web.accounts.content_policy import allow_connect
from platform_web.accounts.models import Role
from platform_web.accounts.scope import role_required
from platform_web.clinic import selectors, services
from platform_web.clinic.errors import ClinicError
from platform_web.clinic.words import page_words
from platform_web.outbox.errors import PortalError
from platform_web.registry.models import Promotion
from site_kits.errors import SiteKitError


@require_GET
@role_required(Role.CLINICIAN)
def clinic(request: HttpRequest) -> HttpResponse:
    promotions = list(selectors.askable(request.user))
    asked_for = request.GET.get("model", "")
    chosen = next(
        (row for row in promotions if str(row.pk) == asked_for), promotions[0] if promotions else None
    )
    context: dict[str, Any] = {"promotions": promotions, "chosen": chosen, "words": page_words()}
    if chosen is not None:
        context |= {"task": chosen.study.task_spec(), "state": selectors.serving_state(chosen)}
    response = render(request, "clinic/clinic.html", context)
    if chosen is not None and chosen.site.inference_url:
        allow_connect(response, chosen.site.inference_url)
    return response


@require_POST
@role_required(Role.CLINICIAN)
def ticket(request: HttpRequest) -> JsonResponse:
    wanted = request.POST.get("promotion", "")
    mine = Promotion.objects.for_user(request.user).select_related("site", "study", "site_model__version")
    promotion = mine.filter(pk=int(wanted)).first() if wanted.isdecimal() and len(wanted) < 19 else None
    if promotion is None:
        return JsonResponse(
            {"detail": _("There is no such model at your institution. Reload the page.")}, status=404
        )
    try:
        given = services.give_ticket(actor=cast("User", request.user), promotion=promotion)
    except ClinicError as error:
        return JsonResponse({"detail": str(error)}, status=409)
    except (PortalError, SiteKitError):
        sentence = _("The portal cannot sign tickets now. Tell the administrator; nothing was sent.")
        return JsonResponse({"detail": sentence}, status=503)
    return JsonResponse({"ticket": given.ticket, "url": given.url, "expires": given.expires})
