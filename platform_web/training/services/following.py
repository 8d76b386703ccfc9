"""Following a run: due rows by lease, the journal line by line, and the end.

Two workers may hold the same run for a moment (a lease that ran out, a message delivered twice). Each line
is therefore applied only at exactly the row's ``journal_position``, under a row lock.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils.timezone import now

from platform_web.audit import services as audit
from platform_web.federation.models import Site
from platform_web.outbox import services as outbox
from platform_web.training.journal import (
    FailureLine,
    Figures,
    FinishLine,
    RoundLine,
    Validated,
    read_line,
)
from platform_web.training.models import Round, Run, SiteRound

LEASE = timedelta(seconds=30)
POLL_EVERY = timedelta(seconds=1)
State = Run.State


def lease_due_runs(*, moment: datetime, limit: int = 20) -> list[str]:
    """Take the lease of every due run; the conditional update lets one worker win each."""
    due = Q(next_poll_at__lte=moment) & (Q(lease_until=None) | Q(lease_until__lt=moment))
    candidates = Run.objects.filter(due, state__in=Run.FOLLOWED).order_by("next_poll_at")
    return [
        str(pk)
        for pk in candidates.values_list("pk", flat=True)[:limit]
        if Run.objects.filter(due, pk=pk, state__in=Run.FOLLOWED).update(lease_until=moment + LEASE)
    ]


def release_run(*, run_id: str) -> None:
    """Give the lease back and say when to look again."""
    Run.objects.filter(pk=run_id).update(lease_until=None, next_poll_at=now() + POLL_EVERY)


@transaction.atomic
def apply_line(*, run_id: str, position: int, line: dict[str, Any]) -> bool:
    """Apply one journal line; False when the row is not at ``position`` (somebody else applied it).

    Raises JournalError when the line cannot be understood; nothing has changed then.
    """
    run = Run.objects.select_for_update().get(pk=run_id)
    if run.journal_position != position or run.is_final:
        return False
    apply = APPLY.get(str(line.get("kind")))
    if apply:
        apply(run, line)
    run.journal_position = position + 1
    if run.state == State.SUBMITTED:
        run.state = State.RUNNING
    run.save(update_fields=["journal_position", "state", "finish", "error"])
    return True


def _apply_round(run: Run, line: dict[str, Any]) -> None:
    record: RoundLine = read_line(RoundLine, line)
    committed, is_new = Round.objects.get_or_create(
        run=run, number=record.round, defaults={"aggregate_sha256": record.digests()}
    )
    _merge(committed, record.cohort, record.site_metrics, record.sites)
    if record.validated:
        _merge_validated(run, record.validated)
    if is_new:
        audit.record(
            act="round.committed",
            actor_type="system",
            run=str(run.pk),
            round=record.round,
            obj=[("aggregate", name, digest) for name, digest in sorted(record.digests().items())],
            data={"sites": len(record.sites)},
        )


def _apply_validate(run: Run, line: dict[str, Any]) -> None:
    validated = line.get("validated")
    if not validated:
        return
    record: Validated = read_line(Validated, validated)
    _merge_validated(run, record)
    audit.record(act="round.validated", actor_type="system", run=str(run.pk), round=record.round)


def _merge_validated(run: Run, record: Validated) -> None:
    """Round 0 is the state before training; it has no row."""
    measured = Round.objects.filter(run=run, number=record.round).first()
    if measured:
        _merge(measured, record.cohort, record.site_metrics, [])


def _merge(
    committed: Round, cohort: Figures, site_metrics: dict[str, Figures | None] | None, sites: list[str]
) -> None:
    committed.cohort = _joined(committed.cohort, cohort)
    committed.save(update_fields=["cohort"])
    shared = site_metrics or {}
    for site in Site.objects.filter(name__in={*sites, *shared}):
        row, _new = SiteRound.objects.get_or_create(round=committed, site=site)
        if shared.get(site.name):
            row.metrics = _joined(row.metrics, shared[site.name] or {})
            row.save(update_fields=["metrics"])


def _joined(old: Figures, new: Figures) -> Figures:
    return {arm: {**old.get(arm, {}), **new.get(arm, {})} for arm in {**old, **new}}


def _apply_finish(run: Run, line: dict[str, Any]) -> None:
    record: FinishLine = read_line(FinishLine, line)
    run.finish = record.model_dump(mode="json")
    audit.record(
        act="run.finished",
        actor_type="system",
        run=str(run.pk),
        obj=[("run", str(run.pk), run.run_digest)],
        data={"chosen": record.chosen, "sites": len(record.sites)},
    )


def _apply_failure(run: Run, line: dict[str, Any]) -> None:
    run.error = read_line(FailureLine, line).error
    audit.record(act="run.failure_reported", actor_type="system", out="error", run=str(run.pk))


APPLY: dict[str, Callable[[Run, dict[str, Any]], None]] = {
    "round": _apply_round,
    "validate": _apply_validate,
    "finish": _apply_finish,
    "failed": _apply_failure,
    "stopped": _apply_failure,
}


@transaction.atomic
def begin_collection(*, run_id: str, job_status: str) -> None:
    """The NVFlare job has ended: promise to fetch what it left. Done twice it changes nothing."""
    run = Run.objects.select_for_update().get(pk=run_id)
    if run.state not in {State.SUBMITTED, State.RUNNING}:
        return
    run.state, run.lease_until = State.COLLECTING, None
    run.save(update_fields=["state", "lease_until"])
    audit.record(
        act="run.collecting",
        actor_type="system",
        run=str(run.pk),
        obj=[("run", str(run.pk), run.run_digest)],
        data={"job": run.nvflare_job_id, "status": job_status},
    )
    outbox.enqueue("registry.collect_run", run_id=str(run.pk))


@transaction.atomic
def complete_run(*, run: Run, models: list[tuple[str, str, str]], site_models_sha256: str) -> None:
    """Close a run whose models are registered; called by the registry inside its transaction."""
    run.state, run.error, run.ended = State.COMPLETED, "", now()
    run.save(update_fields=["state", "error", "ended"])
    audit.record(
        act="run.completed",
        actor_type="system",
        run=str(run.pk),
        obj=models,
        data={"site_models_sha256": site_models_sha256, "rounds": run.committed_rounds.count()},
    )
