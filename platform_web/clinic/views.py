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
    context: dict[str, Any] = {"promotions": promotions, "chosen": chosen, "words": _words()}
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


def _words() -> dict[str, Any]:
    """Everything the page's script may say, in the reader's language."""
    return {
        "arms": {
            "local": _("trained on this institution's cases alone"),
            "global": _("the common model of all sites (FedAvg)"),
            "tuned": _("the common model, trained further on this institution's cases"),
            "personal": _(
                "personalised: learned together with the other sites, with a part that is this "
                "institution's own"
            ),
        },
        "asking": _("Asking the model …"),
        "no_ticket": _("The portal gave no ticket. Sign in again and send the request once more."),
        "unreachable": _(
            "Your institution's model cannot be reached from this computer. Check that you are inside the "
            "institution's network, or ask the site operator whether the site is running. Nothing "
            "was sent elsewhere."
        ),
        "refused": _(
            "The site did not accept the ticket. Check the clocks of both machines and send the "
            "request again."
        ),
        "not_ready": _(
            "The site does not serve this model yet. It takes a new model over within a minute; then "
            "try again."
        ),
        "too_large": _("The file is too large: at most 10 MB and 40 megapixels."),
        "other_model": _(
            "The site answered with another model than the one promoted for it. Do not use this "
            "answer; tell the administrator."
        ),
        "failed": _("The site could not answer."),
        "empty": _("Fill in the case first: choose a file, or type the values."),
        "csv_bad": _(
            "The CSV needs a header line with the feature names and at least one line of numbers. "
            "Missing or not a number: "
        ),
        "too_many": _("At most 200 cases at a time."),
        "case": _("Case"),
        "answer": _("Answer"),
        "probability": _("Probability"),
        "image_only": _("Choose an image file (PNG or JPEG)."),
    }
