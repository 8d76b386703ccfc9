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
from platform_web.registry.errors import CollectionError
from platform_web.training import services as training
from platform_web.training.errors import JournalError
from platform_web.training.journal import MAX_LINE_BYTES, FinishLine, read_line
from platform_web.training.models import Run

log = logging.getLogger(__name__)
JOURNAL = "journal.jsonl"


class Flare(Protocol):
    def download(self, job_id: str, destination: Path) -> Path: ...
    def job_status(self, job_id: str) -> str | None: ...


def collect_run(*, run_id: str) -> None:
    """Fetch, verify and register the results of a run; the run's own journal says whether it finished."""
    collect(run_id, gateway())


def collect(run_id: str, flare: Flare) -> None:
    run = Run.objects.get(pk=run_id)
    if run.state != Run.State.COLLECTING:
        return
    downloads = Path(settings.CONSILIUM_HOME) / "flare" / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{run.pk}-", dir=downloads))
    try:
        folder = flare.download(run.nvflare_job_id, scratch)
        apply_journal(run, folder)
        run.refresh_from_db()
        if run.finish is None:
            training.fail_run(
                run_id=run_id, sentence=run.error or _no_finish(flare.job_status(run.nvflare_job_id))
            )
            return
        finish: FinishLine = read_line(FinishLine, run.finish)
        store_shared_parts(folder, services.shared_digests(finish).values())
        services.register_models(run_id=run_id)
    except (CollectionError, JournalError, FlareRefusedError) as error:
        training.fail_run(run_id=run_id, sentence=str(error))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def apply_journal(run: Run, folder: Path) -> None:
    """Apply what the follower had not seen yet when the job ended."""
    for path in sorted(folder.rglob(JOURNAL)):
        for position, line in enumerate(_lines(path)):
            if position >= run.journal_position:
                training.apply_line(run_id=str(run.pk), position=position, line=line)
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
    if status and "ABANDONED" in status.upper():  # said by our MarkAbandoned when the server comes up again
        return _(
            "The NVFlare server stopped in the middle of the run. Committed rounds are kept. Start the run "
            "again; if this repeats, ask the administrator to look at the server's log."
        )
    return _(
        "The run ended before its last step (NVFlare says %(status)s). Committed rounds are kept. "
        "Check that enough sites stay online and start it again."
    ) % {"status": status or _("nothing")}
