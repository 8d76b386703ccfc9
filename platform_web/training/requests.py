"""What a site is asked: the request behind a run, with the policies of platform and study."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Q
from django.utils.timezone import now
from django.utils.translation import gettext as _

from compliance.policy import MAX_POLICY_BYTES, Policy, PolicyError, decide, meet, parse_policy
from fl_jobs.approval import RunRequest, facts_of
from fl_jobs.packaging.spec import RunSpec
from platform_web.federation.models import Site
from platform_web.training.errors import RunRequestError
from platform_web.training.models import Run, RunApproval, RunQuestion, Study
from site_kits.talk import Answer, Answers

OPEN_REQUESTS_MAX = 50
ANSWERS_NAMED_FOR = timedelta(days=7)  # after that a site that was away asks at the portal's page


def platform_policy() -> Policy:
    """``policy.toml`` in the portal's home; without it the platform adds nothing. Raises RunRequestError."""
    try:
        with (settings.CONSILIUM_HOME / "policy.toml").open("rb") as file:
            return parse_policy(file.read(MAX_POLICY_BYTES + 1))
    except FileNotFoundError:
        return Policy()
    except (OSError, PolicyError) as error:
        raise RunRequestError(
            _("The platform's policy.toml cannot be used, so no run starts: %(reason)s") % {"reason": error}
        ) from error


def study_policy(study: Study) -> Policy:
    """The study's policy; without one it adds nothing. Raises RunRequestError."""
    try:
        return parse_policy(study.policy.encode())
    except PolicyError as error:
        raise RunRequestError(
            _("The study's policy cannot be used, so no run starts: %(reason)s") % {"reason": error}
        ) from error


def check_policies(study: Study, spec: RunSpec) -> None:
    """Raise RunRequestError when platform or study refuse the run: no site needs to be asked then."""
    verdict = decide(facts_of(spec), meet(platform_policy(), study_policy(study)))
    if verdict.effect == "refuse":
        raise RunRequestError(
            _("The policy of platform or study does not permit this run: %(rules)s. Change the run.")
            % {"rules": ", ".join(verdict.rules)}
        )


def pending_requests(site: Site) -> list[dict[str, str]]:
    """Which runs wait for the decision of ``site``, for the answer to its heartbeat."""
    waiting = RunApproval.objects.filter(site=site, state=RunApproval.State.WAITING)
    waiting = waiting.exclude(run__state__in=Run.FINAL).select_related("run").order_by("run__created")
    return [{"run": str(row.run_id), "digest": row.run.run_digest} for row in waiting[:OPEN_REQUESTS_MAX]]


def answered_questions(site: Site) -> list[dict[str, Any]]:
    """How many questions of ``site`` were answered, run by run, for the answer to its heartbeat.

    Of runs that have not ended and of the last week; the site fetches what it lacks.
    """
    answered = RunQuestion.objects.filter(site=site, answered__isnull=False)
    recent = Q(answered__gte=now() - ANSWERS_NAMED_FOR) | ~Q(run__state__in=Run.FINAL)
    runs = answered.filter(recent).order_by().values("run").annotate(newest=Max("answered"))
    named = [row["run"] for row in runs.order_by("-newest")[:OPEN_REQUESTS_MAX]]
    counts = answered.filter(run__in=named).order_by().values("run").annotate(count=Count("pk"))
    return [{"run": str(row["run"]), "answered": row["count"]} for row in counts]


def answers_for(site: Site, run_id: str) -> Answers | None:
    """What was answered to ``site`` about a run; None when it is not asked about it."""
    if not RunApproval.objects.filter(site=site, run_id=run_id).exists():
        return None
    rows = RunQuestion.objects.filter(site=site, run_id=run_id, answered__isnull=False)
    return Answers(
        answers=tuple(
            Answer(
                id=str(row.pk),
                text=row.text,
                asked=row.asked.isoformat(),
                answer=row.answer,
                answered=row.answered.isoformat() if row.answered else "",
                by=row.answered_by.get_username() if row.answered_by else "",
            )
            for row in rows.select_related("answered_by")
        )
    )


def request_for(site: Site, run_id: str) -> RunRequest | None:
    """What ``site`` is asked about a run; None when it is not asked.

    Raises RunStateError or RunRequestError when row or policy cannot be used.
    """
    row = RunApproval.objects.filter(site=site, run_id=run_id).select_related("run__study", "run__created_by")
    asked = row.first()
    if asked is None:
        return None
    run = asked.run
    return RunRequest(
        run_id=str(run.pk),
        run_digest=run.run_digest,
        study_title=run.study.title,
        asked_by=run.created_by.get_username(),
        asked_at=run.created.isoformat(),
        sites=tuple(run.approvals.values_list("site__name", flat=True)),
        spec=run.run_spec(),
        platform_policy=platform_policy(),
        study_policy=study_policy(run.study),
    )
