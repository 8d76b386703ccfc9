"""The page of a run with its benefit table, and the doors that promote and withdraw models."""

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from platform_web.accounts.models import Role
from platform_web.accounts.scope import has_role, role_required
from platform_web.audit.errors import UnwitnessedError
from platform_web.registry import selectors, services
from platform_web.registry.errors import RegistryError
from platform_web.registry.evidence.issuing import EVIDENCE_ROLES
from platform_web.registry.models import Arm, Promotion, SiteModel
from platform_web.training import selectors as training
from platform_web.training.models import Run
from platform_web.training.privacy import privacy_sentences
from platform_web.training.receipt import receipt_of
from platform_web.training.views import VIEWERS
from site_kits.talk import MAX_ANSWER


def _run(request: HttpRequest, run_id: str) -> Run:
    return get_object_or_404(training.runs_for(request.user), pk=run_id)


def _context(request: HttpRequest, run: Run) -> dict[str, Any]:
    approvals = training.approval_rows(run, request.user)
    return {
        "run": run,
        "study": run.study,
        "waiting": training.waiting_for(run, request.user),
        "approvals": approvals,
        "undecided": [row for row in approvals if row["approval"].state == "WAITING"],
        "questions": training.question_rows(run, request.user),
        "most_answer": MAX_ANSWER,
        "rows": selectors.benefit_rows(run, request.user),
        "cohort": selectors.cohort_cells(run),
        "receipt": receipt_of(run, request.user),
        "privacy": privacy_sentences(run),
        "footprint": training.footprint_rows(run, request.user),
        "evidence_of": run.versions.all() if has_role(request.user, *EVIDENCE_ROLES) else (),
        "arms": Arm,
        "may_promote": has_role(request.user, Role.ADMINISTRATOR),
        "may_stop": has_role(request.user, Role.ADMINISTRATOR, Role.DATA_SCIENTIST),
    }


@require_GET
@role_required(*VIEWERS)
def run(request: HttpRequest, run_id: str) -> HttpResponse:
    return render(request, "registry/run.html", _context(request, _run(request, run_id)))


@require_GET
@role_required(*VIEWERS)
def run_live(request: HttpRequest, run_id: str) -> HttpResponse:
    """What htmx asks for every two seconds; when the run has ended the page is loaded once more."""
    found = _run(request, run_id)
    response = render(request, "registry/run_live.html", _context(request, found))
    if found.is_final:
        response["HX-Refresh"] = "true"
    return response


@require_GET
@role_required(*VIEWERS)
def run_data(request: HttpRequest, run_id: str) -> JsonResponse:
    found = _run(request, run_id)
    return JsonResponse(
        {
            "id": str(found.pk),
            "study": found.study.slug,
            "state": found.state,
            "error": found.error,
            "run_digest": found.run_digest,
            "rounds_asked": found.rounds,
            "jobs": training.job_rows(found),
            "rounds": training.round_rows(found, request.user),
            "waiting": [
                {"site": row["site"].name, "online": row["online"], "missing": row["missing"]}
                for row in training.waiting_for(found, request.user)
            ],
            "approvals": {
                row["approval"].site.name: row["approval"].state
                for row in training.approval_rows(found, request.user)
            },
            "versions": selectors.version_rows(found, request.user),
        }
    )


@require_GET
@role_required(*VIEWERS)
def models(request: HttpRequest) -> HttpResponse:
    """What serves where."""
    active = selectors.active_promotions(request.user)
    context = {"promotions": active, "may_promote": has_role(request.user, Role.ADMINISTRATOR)}
    return render(request, "registry/models.html", context)


@require_POST
@role_required(Role.ADMINISTRATOR)
def promote(request: HttpRequest, pk: int) -> HttpResponse:
    chosen = get_object_or_404(
        SiteModel.objects.for_user(request.user).select_related("version", "site"), pk=pk
    )
    try:
        services.promote(
            site_model_id=chosen.pk, actor=cast("User", request.user), reason=request.POST.get("reason", "")
        )
    except (RegistryError, UnwitnessedError) as error:
        messages.error(request, str(error))
    else:
        messages.success(
            request,
            _("“%(model)s” now serves %(site)s; the site takes it over with its next heartbeat.")
            % {"model": chosen.version.label, "site": chosen.site.title},
        )
    return redirect("run", run_id=chosen.version.run_id)


@require_POST
@role_required(Role.ADMINISTRATOR)
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    promotion = get_object_or_404(Promotion.objects.for_user(request.user), pk=pk)
    try:
        services.withdraw(
            promotion_id=promotion.pk, actor=cast("User", request.user), reason=request.POST.get("reason", "")
        )
    except RegistryError as error:
        messages.error(request, str(error))
    else:
        messages.success(
            request, _("The model was withdrawn; the site stops serving it with its next heartbeat.")
        )
    return redirect("models")
