"""Fetching what a run left, once its NVFlare job has ended. May be done twice or be cut off."""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.utils.translation import gettext as _

from platform_web.federation.errors import FlareRefusedError
from platform_web.federation.flare_gateway import gateway
from platform_web.registry import services
from platform_web.registry.artifacts import store_shared_parts
from platform_web.registry.errors import CollectionError, MissingPartError
from platform_web.training import interruptions
from platform_web.training import services as training
from platform_web.training.errors import JournalError
from platform_web.training.journal import MAX_LINE_BYTES, FinishLine, read_line
from platform_web.training.models import Run

log = logging.getLogger(__name__)
JOURNAL = "journal.jsonl"


class Flare(Protocol):
    def download(self, job_id: str, destination: Path) -> Path: ...
    def job_status(self, job_id: str) -> str | None: ...


def collect_run(*, run_id: str, epoch: int = 1) -> None:
    """Fetch, verify and register the results of a run; the run's own journal says whether it finished."""
    collect(run_id, epoch, gateway())


def collect(run_id: str, epoch: int, flare: Flare) -> None:
    """What contradicts itself ends the run; what is merely not there is made again by another job."""
    run = Run.objects.get(pk=run_id)
    if run.state != Run.State.COLLECTING or run.epoch != epoch:
        return
    downloads = Path(settings.CONSILIUM_HOME) / "flare" / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{run.pk}-", dir=downloads))
    try:
        folder = flare.download(run.nvflare_job_id, scratch)
        apply_journal(run, folder)
        run.refresh_from_db()
        if run.finish is None:
            _unfinished(run, _no_finish(flare.job_status(run.nvflare_job_id)))
            return
        finish: FinishLine = read_line(FinishLine, run.finish)
        store_shared_parts(folder, services.shared_digests(finish).values())
        services.register_models(run_id=run_id)
    except (FlareRefusedError, MissingPartError) as error:
        _interrupt(run, interruptions.NO_RESULT, str(error))
    except (CollectionError, JournalError) as error:
        training.fail_run(run_id=run_id, sentence=str(error))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unfinished(run: Run, sentence: str) -> None:
    """The journal has no finish line: the run failed if it says so, and goes on otherwise."""
    if run.error:
        training.fail_run(run_id=str(run.pk), sentence=run.error)
    else:
        _interrupt(run, interruptions.JOB_ENDED, sentence)


def _interrupt(run: Run, code: str, error: str) -> None:
    said = run.interruption or {}
    training.interrupt_run(
        run_id=str(run.pk),
        epoch=run.epoch,
        code=said.get("code") or code,
        error=said.get("error") or error,
        missing=said.get("missing", ()),
    )


def apply_journal(run: Run, folder: Path) -> None:
    """Apply what the follower had not seen yet when the job ended. Raises JournalError if lines are gone."""
    for path in sorted(folder.rglob(JOURNAL)):
        count = 0
        for count, line in enumerate(_lines(path), start=1):
            if count > run.journal_position:
                training.apply_line(run_id=str(run.pk), position=count - 1, line=line)
        if count < run.journal_position:
            raise JournalError(
                _(
                    "The server's journal of this run has fewer lines than were read before: its folder was "
                    "lost or replaced. Ask the administrator, and start the run again."
                )
            )
        return


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as handle:
        while raw := handle.readline(MAX_LINE_BYTES + 1):
            if len(raw) > MAX_LINE_BYTES:
                raise JournalError(_("The run's journal holds a line that is too long. Start the run again."))
            if not raw.endswith(b"\n"):
                return  # a line cut off by a crash was never committed
            try:
                line = json.loads(raw)
            except ValueError as error:
                raise JournalError(_("The run's journal is damaged. Start the run again.")) from error
            if isinstance(line, dict):
                yield line


def _no_finish(status: str | None) -> str:
    return _("The run's job ended before its last step (NVFlare says %(status)s).") % {
        "status": status or _("nothing")
    }
