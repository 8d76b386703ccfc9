"""Following a run: due rows by lease, the journal line by line, and the end.

Two workers may hold the same run for a moment (a lease that ran out, a message delivered twice). Each line
is therefore applied only at exactly the row's ``journal_position``, under a row lock.
"""

import logging
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
    InterruptedLine,
    RosterLine,
    RoundLine,
    Validated,
    epoch_of,
    read_line,
)
from platform_web.training.models import Round, Run, RunJob, SiteRound

LEASE = timedelta(seconds=30)
POLL_EVERY = timedelta(seconds=1)
State = Run.State
log = logging.getLogger(__name__)
_NAMED = 100  # of a round's sites in its entry, which has at most 8 KiB
_ENTRY_ROOM, _DIGEST_ROOM = 7000, 67  # bytes for names and digests; of one digest in quotes, with its comma


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


def note_heard(*, run_id: str, epoch: int) -> None:
    """The job of this epoch answered just now."""
    Run.objects.filter(pk=run_id, epoch=epoch).update(last_heard=now(), silent_since=None)


def note_server_answers(*, run_id: str, epoch: int) -> None:
    """The server answered for a job that has not begun to speak."""
    Run.objects.filter(pk=run_id, epoch=epoch).exclude(silent_since=None).update(silent_since=None)


def note_silence(*, run_id: str, epoch: int) -> None:
    """Nobody answered when this epoch's job was asked; since when is kept."""
    asked = Run.objects.filter(pk=run_id, epoch=epoch, state__in=[State.SUBMITTED, State.RUNNING])
    asked.filter(silent_since=None).update(silent_since=now())


@transaction.atomic
def apply_line(*, run_id: str, position: int, line: dict[str, Any]) -> bool:
    """Apply one journal line; False when the row is not at ``position`` (somebody else applied it).

    Lines of earlier jobs of the run come before those of its present one. A line of a lower epoch after one
    of a higher epoch was written by a server that had been replaced: it is passed over.
    Raises JournalError when the line cannot be understood; nothing has changed then.
    """
    run = Run.objects.select_for_update().get(pk=run_id)
    if run.journal_position != position or run.is_final:
        return False
    epoch = epoch_of(line, max(run.journal_epoch, 1))
    apply = APPLY.get(str(line.get("kind")))
    if epoch < run.journal_epoch:
        log.warning(
            "run %s: line %d of epoch %d came after epoch %d", run_id, position, epoch, run.journal_epoch
        )
    elif apply:
        apply(run, line, epoch)
    run.journal_position, run.journal_epoch = position + 1, max(epoch, run.journal_epoch)
    if run.state == State.SUBMITTED:
        run.state = State.RUNNING
    run.save(update_fields=APPLIED)
    return True


def _apply_round(run: Run, line: dict[str, Any], epoch: int) -> None:
    record: RoundLine = read_line(RoundLine, line)
    masking = record.masking.model_dump(mode="json") if record.masking else None
    committed, is_new = Round.objects.get_or_create(
        run=run,
        number=record.round,
        defaults={"aggregate_sha256": record.digests(), "epoch": epoch, "masking": masking},
    )
    if epoch == run.epoch:
        since = now().isoformat()
        run.lost = {site: run.lost.get(site, since) for site in record.lost}
    if not is_new and committed.aggregate_sha256 != record.digests():
        log.warning("run %s: round %d was committed before, with another aggregate", run.pk, record.round)
        return
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
            data=_contributions(record),
        )


def _contributions(record: RoundLine) -> dict[str, Any]:
    """Who is in the sum, and in the same order SHA-256 of what came from each, as far as an entry has room.

    Without masks the server reads the update itself; a masked vector's digest tells nothing about anybody.
    """
    names = sorted(record.sites)[:_NAMED]
    room = _ENTRY_ROOM - sum(len(name) + 3 for name in names)
    digests = [record.received_sha256.get(name, "") for name in names[: room // _DIGEST_ROOM]]
    return {"sites": len(record.sites), "contributors": names, "received_sha256": digests}


def _apply_validate(run: Run, line: dict[str, Any], epoch: int) -> None:  # noqa: ARG001 - one signature for all
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
    for site in Site.objects.filter(name__in=sites):
        SiteRound.objects.get_or_create(round=committed, site=site)
    # a site that was back only for the next round measured this one's result, and took no part in it
    for row in committed.site_rounds.filter(site__name__in=shared).select_related("site"):
        if figures := shared.get(row.site.name):
            row.metrics = _joined(row.metrics, figures)
            row.save(update_fields=["metrics"])


def _joined(old: Figures, new: Figures) -> Figures:
    return {arm: {**old.get(arm, {}), **new.get(arm, {})} for arm in {**old, **new}}


def _apply_finish(run: Run, line: dict[str, Any], epoch: int) -> None:  # noqa: ARG001 - one signature for all
    """A finish line counts whichever job wrote it; a later job only hands the results over again."""
    record: FinishLine = read_line(FinishLine, line)
    if run.finish is not None:
        return
    run.finish = record.model_dump(mode="json")
    audit.record(
        act="run.finished",
        actor_type="system",
        run=str(run.pk),
        obj=[("run", str(run.pk), run.run_digest)],
        data={"chosen": record.chosen, "sites": len(record.sites)},
    )


def _apply_failure(run: Run, line: dict[str, Any], epoch: int) -> None:
    """Ends the run when its present job says so; what an earlier job said has been answered by a new one."""
    record: FailureLine = read_line(FailureLine, line)
    code = record.code or str(line["kind"]).upper()
    _note_end(run, epoch, code, record.error)
    if epoch == run.epoch:
        run.error = record.error
    audit.record(act="run.failure_reported", actor_type="system", out="error", run=str(run.pk))


def _apply_interrupted(run: Run, line: dict[str, Any], epoch: int) -> None:
    """Kept until the NVFlare job has ended; the entry of the log is written when the run begins to wait."""
    record: InterruptedLine = read_line(InterruptedLine, line)
    _note_end(run, epoch, record.code, record.error)
    if epoch == run.epoch:
        run.interruption = record.model_dump(mode="json")


def _note_end(run: Run, epoch: int, code: str, error: str) -> None:
    RunJob.objects.filter(run=run, epoch=epoch).update(code=code, error=error)


def _apply_roster(run: Run, line: dict[str, Any], epoch: int) -> None:
    record: RosterLine = read_line(RosterLine, line)
    RunJob.objects.filter(run=run, epoch=epoch).update(roster=record.model_dump(mode="json"))


APPLY: dict[str, Callable[[Run, dict[str, Any], int], None]] = {
    "roster": _apply_roster,
    "round": _apply_round,
    "validate": _apply_validate,
    "finish": _apply_finish,
    "interrupted": _apply_interrupted,
    "failed": _apply_failure,
    "stopped": _apply_failure,
}
APPLIED = ["journal_position", "journal_epoch", "state", "finish", "error", "interruption", "lost"]


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
    outbox.enqueue("registry.collect_run", run_id=str(run.pk), epoch=run.epoch)


@transaction.atomic
def complete_run(*, run: Run, models: list[tuple[str, str, str]], site_models_sha256: str) -> None:
    """Close a run whose models are registered; called by the registry inside its transaction."""
    run.state, run.error, run.ended, run.interruption = State.COMPLETED, "", now(), None
    run.save(update_fields=["state", "error", "ended", "interruption"])
    RunJob.objects.filter(run=run, epoch=run.epoch).update(ended=run.ended, code="", error="")
    audit.record(
        act="run.completed",
        actor_type="system",
        run=str(run.pk),
        obj=models,
        data={"site_models_sha256": site_models_sha256, "rounds": run.committed_rounds.count()},
    )
