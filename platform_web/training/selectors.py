"""Reads of studies and runs for the pages."""

from statistics import median
from typing import Any, TypedDict

from django.db.models import Count, Exists, Max, OuterRef, QuerySet
from django.utils.timezone import now
from django.utils.translation import gettext as _

from fl_jobs import catalog
from fl_jobs.messages import SYSTEM
from platform_web.accounts.scope import AnyUser
from platform_web.federation.models import Dataset, Site
from platform_web.training.models import Round, Run, RunApproval, RunQuestion, SiteRound, Study


class TemplateRow(TypedDict):
    """A template that fits a study, with its choices: the key of the address and the algorithm's title."""

    title: str
    summary: str
    choices: list[tuple[str, str]]


class ReadySite(TypedDict):
    """A site and what keeps it from taking part in a run."""

    site: Site
    card: Dataset | None
    online: bool
    missing: str


def sites_of(user: AnyUser) -> set[Site]:
    """The sites this person may see."""
    return set(Site.objects.for_user(user))


def runs_for(user: AnyUser) -> QuerySet[Run]:
    """Runs the person may see, newest first.

    ``done``: the number of committed rounds; ``is_asked``: a site waits for an answer this person may read.
    """
    asked = RunQuestion.objects.for_user(user).filter(run=OuterRef("pk"), answered=None)
    return (
        Run.objects.for_user(user)
        .select_related("study", "created_by")
        .annotate(done=Count("committed_rounds", distinct=True), is_asked=Exists(asked))
        .order_by("-created")
    )


def studies_for(user: AnyUser) -> QuerySet[Study]:
    """Studies the person may see, with their number of runs."""
    return (
        Study.objects.for_user(user)
        .annotate(run_count=Count("runs", distinct=True), last_run=Max("runs__created"))
        .order_by("-created")
    )


def visible_sites(run: Run, user: AnyUser) -> list[Site]:
    """The run's sites this person may see by name."""
    seen = Site.objects.for_user(user).values("pk")
    return list(run.sites.filter(pk__in=seen).order_by("name"))


def round_rows(run: Run, user: AnyUser) -> list[dict[str, Any]]:
    """Committed rounds with cohort figures and those per-site figures the person may see."""
    own: dict[int, dict[str, Any]] = {}
    site_rounds = SiteRound.objects.for_user(user).filter(round__run=run).select_related("site")
    for row in site_rounds:
        own.setdefault(row.round_id, {})[row.site.name] = row.metrics
    return [
        {
            "number": row.number,
            "epoch": row.epoch,
            "committed": row.committed.isoformat(),
            "cohort": row.cohort,
            "aggregate_sha256": row.aggregate_sha256,
            "sites": own.get(row.pk, {}),
        }
        for row in Round.objects.filter(run=run).order_by("number")
    ]


def job_rows(run: Run) -> list[dict[str, Any]]:
    """The NVFlare jobs this run took, and the code of why each ended early."""
    return [
        {"epoch": job.epoch, "start_round": job.start_round, "job_id": job.job_id, "code": job.code}
        for job in run.jobs.order_by("epoch")
    ]


def approval_rows(run: Run, user: AnyUser) -> list[dict[str, Any]]:
    """Each asked site's decision, and what its own gate last stopped of this run."""
    rows = RunApproval.objects.for_user(user).filter(run=run).select_related("site").order_by("site__name")
    return [{"approval": row, "stopped": _stopped(row.site, run)} for row in rows]


def question_rows(run: Run, user: AnyUser) -> list[RunQuestion]:
    """What the sites ask about the run, as far as this person may read it."""
    rows = RunQuestion.objects.for_user(user).filter(run=run)
    return list(rows.select_related("site", "answered_by").order_by("asked"))


def _stopped(site: Site, run: Run) -> str:
    told = (site.heartbeat or {}).get("refusals") or []
    return next((each["sentence"] for each in reversed(told) if each.get("run") == str(run.pk)), "")


def waiting_for(run: Run, user: AnyUser) -> list[dict[str, Any]]:
    """Whom the run waits for: sites without an update in the round after the last committed one."""
    if run.is_final:
        return []
    moment = now()
    last = Round.objects.filter(run=run).order_by("-number").first()
    took_part = set(last.site_rounds.values_list("site_id", flat=True)) if last else set()
    return [
        {
            "site": site,
            "online": site.is_online(moment),
            "missing": site.missing(moment),
            "dropped": last is not None and site.pk not in took_part,
        }
        for site in visible_sites(run, user)
    ]


def templates_for(study: Study) -> list[TemplateRow]:
    """What a run of ``study`` may start from."""
    kind = study.task_spec().kind
    return [
        {
            "title": _(template.title),
            "summary": _(template.summary),
            "choices": [
                (f"{template.name}--{name}", _(catalog.ALGORITHMS[name].title))
                for name in template.per_algorithm
                if name in catalog.ALGORITHMS
            ],
        }
        for template in catalog.TEMPLATES.values()
        if template.kind == kind
    ]


def ready_sites(study: Study) -> list[ReadySite]:
    """Every site with what keeps it from taking part in a run of ``study``, for the form."""
    moment = now()
    cards = {card.site_id: card for card in Dataset.objects.filter(name=study.dataset)}
    return [
        {
            "site": site,
            "card": cards.get(site.pk),
            "online": site.is_online(moment),
            "missing": site.missing(moment),
        }
        for site in Site.objects.order_by("name")
    ]


def footprint_rows(run: Run, user: AnyUser) -> list[dict[str, Any]]:
    """What the run cost each site this person may see and that shares its figures.

    Seconds, bytes and joules over all rounds, the median seconds of a round, the largest memory in MB.
    """
    costs: dict[Site, list[dict[str, float]]] = {}
    rows = SiteRound.objects.for_user(user).filter(round__run=run).select_related("site")
    for row in rows.order_by("site__name", "round__number"):
        if cost := row.metrics.get(SYSTEM):
            costs.setdefault(row.site, []).append({k: v for k, v in cost.items() if v is not None})
    return [{"site": site, **_footprint(found)} for site, found in costs.items()]


def _footprint(found: list[dict[str, float]]) -> dict[str, Any]:
    energy = [cost["package_energy_j"] for cost in found if "package_energy_j" in cost]
    return {
        "rounds": len(found),
        "seconds": sum(cost.get("seconds", 0.0) for cost in found),
        "round_seconds": median(cost.get("seconds", 0.0) for cost in found),
        "bytes_up": sum(int(cost.get("bytes_up", 0)) for cost in found),
        "bytes_down": sum(int(cost.get("bytes_down", 0)) for cost in found),
        "peak_memory_mb": max(cost.get("peak_memory_mb", 0.0) for cost in found),
        "energy_j": sum(energy) if len(energy) == len(found) else None,
    }
