"""Asking the sites, hearing their decisions, and going on when enough of them approved."""

from collections.abc import Mapping
from types import MappingProxyType

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.timezone import now
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation.models import Site
from platform_web.training.errors import RunStateError
from platform_web.training.models import Run, RunApproval
from platform_web.training.services.runs import fail_run, lock_run
from platform_web.training.services.submitting import promise_job
from site_kits.decisions import DecisionStatement

State, Said = Run.State, RunApproval.State
UNDER_WAY = frozenset({State.SUBMITTED, State.RUNNING, State.RESUMING})
_NOBODY: Mapping[str, str] = MappingProxyType({})


@transaction.atomic
def record_decision(*, site: Site, statement: DecisionStatement, signature: str, serial: str) -> RunApproval:
    """Keep what a site decided, with its evidence. The signature has been verified against its certificate.

    A site may change its mind while the run has not ended: a withdrawn approval keeps it out of later jobs.
    Raises RunStateError when the site was not asked, decides on another digest, the run has ended, or a later
    decision is known.
    """
    run = Run.objects.select_for_update().filter(pk=statement.run_id).first()
    row = RunApproval.objects.filter(run=run, site=site).first() if run else None
    if run is None or row is None or statement.site != site.name:
        raise RunStateError(_("This site was not asked about this run. Nothing was changed."))
    if row.statement == statement.text():
        return row
    if statement.run_digest != run.run_digest:
        raise RunStateError(_("The decision is about another digest than the run's. Ask for it again."))
    if run.is_final:
        raise RunStateError(_("The run has ended; the decision changes nothing any more."))
    if statement.decided_at <= row.decided_at:
        raise RunStateError(_("A later decision of this site is known. Nothing was changed."))
    row.state = Said.APPROVED if statement.approve else Said.REFUSED
    row.by, row.reason, row.policy_digest = statement.by, statement.reason, statement.policy_digest
    row.decided_at, row.received = statement.decided_at, now()
    row.statement, row.signature, row.serial = statement.text(), signature, serial
    row.save()
    audit.record(
        act="run.approved" if statement.approve else "run.refused",
        actor_type="site",
        site=site.name,
        run=str(run.pk),
        obj=[("run_spec", str(run.pk), run.run_digest), ("policy", site.name, statement.policy_digest)],
        data={"by": statement.by},
    )
    return row


@transaction.atomic
def settle_approvals(*, run_id: str) -> None:
    """Go on when every asked site has decided, or end a run that too few sites can still approve."""
    run = lock_run(run_id)
    if run.state != State.APPROVING:
        return
    approved, waiting = _count(run, Said.APPROVED), _count(run, Said.WAITING)
    if approved + waiting < run.fewest_sites:
        fail_run(run_id=run_id, sentence=_too_few(run, {}), is_typed=True)
    elif not waiting:
        _begin(run, None)


@transaction.atomic
def start_with_approved(*, run_id: str, actor: User) -> Run:
    """Wait no longer. Raises RunStateError when the run does not wait for approval or too few approved."""
    run = lock_run(run_id)
    if run.state != State.APPROVING:
        raise RunStateError(_("This run does not wait for approvals."))
    approved = _count(run, Said.APPROVED)
    if approved < run.fewest_sites:
        raise RunStateError(
            _("Only %(approved)d sites have approved; the run needs %(least)d. Wait, or stop it.")
            % {"approved": approved, "least": run.fewest_sites}
        )
    _begin(run, actor)
    return run


def _begin(run: Run, actor: User | None) -> None:
    run.state, run.next_poll_at = State.PREPARING, None
    run.save(update_fields=["state", "next_poll_at"])
    audit.record(
        act="run.waiting_ended",
        actor=actor,
        actor_type="user" if actor else "system",
        run=str(run.pk),
        obj=[("run_spec", str(run.pk), run.run_digest)],
        data={"approved": _count(run, Said.APPROVED), "waiting": _count(run, Said.WAITING)},
    )
    promise_job(run)


def _count(run: Run, state: str) -> int:
    active = run.approvals.exclude(site__status__in=Site.BARRED)
    return active.filter(state=state).count()


def refusal_of(run: Run, stopped: Mapping[str, str] = _NOBODY) -> str:
    """Who refused a run that is under way, if fewer sites are left than it needs; empty otherwise.

    Counted are sites that decided against it (also later) and those whose own gate or NVFlare client
    (``stopped``: name → sentence) did not start its present job. A gate that closes after a round of the job
    was committed does not count: the job ends by itself, and the next one is stopped at its start.
    """
    if run.state not in UNDER_WAY or run.finish is not None:
        return ""
    told = dict(stopped) | ({} if run.committed_rounds.filter(epoch=run.epoch).exists() else _gates(run))
    said_no = set(run.approvals.filter(state=Said.REFUSED).values_list("site__name", flat=True))
    asked = run.sites.exclude(status__in=(Site.Status.REVOKED, Site.Status.LEFT))
    left = asked.exclude(name__in=said_no | told.keys()).count()
    if not said_no | told.keys() or left >= run.fewest_sites:
        return ""
    return _too_few(run, told)


def _gates(run: Run) -> dict[str, str]:
    """The sites whose heartbeat says that their gate stopped the run's present job, and what it says."""
    if not run.nvflare_job_id or run.state == State.RESUMING:
        return {}
    return {
        site.name: str(each.get("sentence", ""))
        for site in run.sites.all()
        for each in (site.heartbeat or {}).get("refusals") or []
        if each.get("job") == run.nvflare_job_id
    }


def _too_few(run: Run, stopped: Mapping[str, str]) -> str:
    refused = run.approvals.filter(state=Said.REFUSED).select_related("site")
    told = {row.site.title: row.reason for row in refused}
    for site in run.sites.filter(name__in=stopped):
        told.setdefault(site.title, stopped[site.name])
    return _("The run needs %(least)d sites, and too few approve it. Refused by %(sites)s.") % {
        "least": run.fewest_sites,
        "sites": "; ".join(f"{title}: {why}" if why else title for title, why in sorted(told.items())) or "–",
    }
