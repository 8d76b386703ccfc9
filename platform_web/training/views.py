"""Pages of studies, and the doors that start and stop runs."""

from collections.abc import Callable
from typing import cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from fl_jobs.errors import SpecError
from platform_web.accounts.models import Role
from platform_web.accounts.scope import has_role, role_required
from platform_web.training import selectors, services
from platform_web.training.errors import TrainingError
from platform_web.training.forms import StudyForm
from platform_web.training.models import Run, RunQuestion, Study
from platform_web.training.run_form import RunForm

UNPROCESSABLE = 422
VIEWERS = (Role.ADMINISTRATOR, Role.DATA_SCIENTIST, Role.AUDITOR, Role.SITE_OPERATOR)


@require_GET
@role_required(*VIEWERS)
def studies(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "training/studies.html",
        {
            "studies": selectors.studies_for(request.user),
            "may_add": has_role(request.user, Role.DATA_SCIENTIST),
        },
    )


@require_http_methods(["GET", "POST"])
@role_required(Role.DATA_SCIENTIST)
def add_study(request: HttpRequest) -> HttpResponse:
    form = StudyForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            study = services.open_study(
                actor=cast("User", request.user),
                slug=values["slug"],
                title=values["title"],
                purpose=values["purpose"],
                dataset=values["dataset"],
                task=values["task"],
                teaching=values["teaching"],
                policy=values["policy"],
            )
        except TrainingError as error:
            form.add_error(None, str(error))
        else:
            messages.success(
                request, _("The study is open. Start its first run when the sites have their data.")
            )
            return redirect("study", slug=study.slug)
    status = UNPROCESSABLE if form.is_bound else 200
    return render(request, "training/study_form.html", {"form": form}, status=status)


@require_GET
@role_required(*VIEWERS)
def study(request: HttpRequest, slug: str) -> HttpResponse:
    found = get_object_or_404(Study.objects.for_user(request.user), slug=slug)
    context = {
        "study": found,
        "task": found.task_spec(),
        "runs": selectors.runs_for(request.user).filter(study=found),
        "ready": [
            row for row in selectors.ready_sites(found) if row["site"] in selectors.sites_of(request.user)
        ],
        "may_run": has_role(request.user, Role.DATA_SCIENTIST),
    }
    return render(request, "training/study.html", context)


@require_GET
@role_required(*VIEWERS)
def runs(request: HttpRequest) -> HttpResponse:
    context = {
        "runs": selectors.runs_for(request.user)[:200],
        "may_run": has_role(request.user, Role.DATA_SCIENTIST),
    }
    return render(request, "training/runs.html", context)


@require_http_methods(["GET", "POST"])
@role_required(Role.DATA_SCIENTIST)
def add_run(request: HttpRequest) -> HttpResponse:
    slug = request.POST.get("study") or request.GET.get("study", "")
    chosen = Study.objects.for_user(request.user).filter(slug=slug).first()
    if chosen is None:
        return _choose_study(request, slug)
    initial = {name: request.GET[name] for name in ("algorithm", "model") if name in request.GET}
    form = RunForm(request.POST if request.method == "POST" else None, study=chosen, initial=initial)
    template = request.GET.get("template", "") if request.method == "GET" else ""
    if template:
        _fill(request, form, template)
    if request.method == "POST" and form.is_valid():
        try:
            run = services.start_run(actor=cast("User", request.user), study=chosen, request=form.request())
        except TrainingError as error:
            form.add_error("sites", str(error))
        else:
            messages.success(
                request, _("The run was started. Its digest appears as soon as it has been prepared.")
            )
            return redirect("run", run_id=run.pk)
    ready = selectors.ready_sites(chosen)
    context = {"form": form, "study": chosen, "ready": ready, "ticked": _ticked(form, ready)}
    context |= {"templates": selectors.templates_for(chosen), "template": template}
    return render(request, "training/run_form.html", context, status=UNPROCESSABLE if form.is_bound else 200)


def _fill(request: HttpRequest, form: RunForm, template: str) -> None:
    try:
        form.fill(template)
    except SpecError:
        messages.error(request, _("There is no such template for this study. Choose one of the list."))


def _ticked(form: RunForm, ready: list[selectors.ReadySite]) -> set[str]:
    """What was ticked; on a fresh form every site that can take part."""
    if form.is_bound:
        return set(form.data.getlist("sites")) if hasattr(form.data, "getlist") else set()
    return {row["site"].name for row in ready if row["online"] and row["card"]}


def _choose_study(request: HttpRequest, slug: str) -> HttpResponse:
    if slug:
        messages.error(
            request, _("There is no study called “%(slug)s”. Choose one of the list.") % {"slug": slug[:63]}
        )
    context = {"studies": selectors.studies_for(request.user)}
    return render(request, "training/choose_study.html", context, status=UNPROCESSABLE if slug else 200)


@require_POST
@role_required(Role.DATA_SCIENTIST, Role.ADMINISTRATOR)
def stop_run(request: HttpRequest, run_id: str) -> HttpResponse:
    return _do(request, run_id, services.stop_run, _("The run is being stopped. Committed rounds are kept."))


@require_POST
@role_required(Role.DATA_SCIENTIST, Role.ADMINISTRATOR)
def start_with_approved(request: HttpRequest, run_id: str) -> HttpResponse:
    done = _("The run starts with the sites that have approved it.")
    return _do(request, run_id, services.start_with_approved, done)


@require_POST
@role_required(Role.DATA_SCIENTIST, Role.ADMINISTRATOR)
def answer_question(request: HttpRequest, question_id: str) -> HttpResponse:
    """By an administrator or who started the run; for others the question does not exist."""
    question = get_object_or_404(RunQuestion.objects.for_user(request.user), pk=question_id)
    try:
        services.record_answer(
            question_id=str(question.pk),
            actor=cast("User", request.user),
            text=request.POST.get("text", ""),
        )
    except TrainingError as error:
        messages.error(request, str(error))
    else:
        sent = _("Answered. %(site)s reads it within seconds; the run still waits for its decision.")
        messages.success(request, sent % {"site": question.site.title})
    return redirect(f"{reverse('run', args=[question.run_id])}#questions")


def _do(request: HttpRequest, run_id: str, act: Callable[..., Run], done: str) -> HttpResponse:
    run = get_object_or_404(Run.objects.for_user(request.user), pk=run_id)
    try:
        act(run_id=str(run.pk), actor=cast("User", request.user))
    except TrainingError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return redirect("run", run_id=run.pk)
