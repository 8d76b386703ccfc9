"""NVFlare's door to the server's session: asks the sites, commits what they answer, never loses a round."""

import time
from pathlib import Path
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fl_jobs.errors import FLJobError, RunInterruptedError, StaleEpochError
from fl_jobs.flare.cohorts import Cohorts
from fl_jobs.flare.exchange import Exchange, StoppedError
from fl_jobs.flare.journal import RunFolder
from fl_jobs.flare.keeping import commit_record, export_results
from fl_jobs.flare.masked_rounds import MaskedRounds
from fl_jobs.flare.parent_watch import exit_with_parent
from fl_jobs.flare.presence import Presence
from fl_jobs.flare.rounds import TOO_FEW, ClearRounds, Rounds
from fl_jobs.flare.site_identity import root_certificate
from fl_jobs.messages import TaskOrder
from fl_jobs.packaging.allow_list import AllowList
from fl_jobs.packaging.job import read_spec
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.server_session import ServerSession
from secure_agg.server import ServerEpoch

JOURNAL_COMMAND = "consilium.journal"
END_COMMAND = "consilium.end_at_boundary"
REJOIN = "REJOIN"


class ConsiliumController(Controller):
    """Drives one ServerSession. Arguments come from ``packaging.job.write_job``."""

    def __init__(
        self,
        run_id: str,
        run_digest: str,
        epoch: int,
        start_round: int,
        sites: list[str],
        task_timeout_s: int = 86_400,
        grace_s: float = 5.0,
    ) -> None:
        super().__init__()
        self._run_id, self._run_digest, self._sites = run_id, run_digest, sites
        self._epoch, self._start_round = epoch, start_round
        self._task_timeout_s, self._grace_s = task_timeout_s, grace_s
        self._kept: RunFolder | None = None
        self._presence = Presence()
        self._end_reason: str | None = None  # set by the portal: end before the next order

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Open the run's folder and answer the portal's questions from now on."""
        exit_with_parent()
        self._presence.watch(self.communicator)
        engine = fl_ctx.get_engine()
        workspace = engine.get_workspace()
        self._root_folder = Path(workspace.get_root_dir())
        self._run_folder = Path(workspace.get_run_dir(fl_ctx.get_job_id()))
        self._config_folder = Path(workspace.get_app_config_dir(fl_ctx.get_job_id()))
        self._kept = RunFolder(self._root_folder / "rounds" / self._run_id, epoch=self._epoch)
        engine.register_app_command(JOURNAL_COMMAND, self._answer_journal)
        engine.register_app_command(END_COMMAND, self._end_at_boundary)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Run to the end. Every way of ending but a crash leaves a journal line that says what is next."""
        assert self._kept is not None  # noqa: S101 - start_controller ran
        kept = self._kept
        exchange = Exchange(
            self,
            self._sites,
            self._presence,
            abort_signal,
            fl_ctx,
            task_timeout_s=self._task_timeout_s,
            allows=AllowList(self._root_folder).knows,
        )
        try:
            self._run(kept, exchange, fl_ctx)
        except StaleEpochError as error:
            self.system_panic(str(error), fl_ctx)  # the journal belongs to the later epoch
        except StoppedError:
            kept.append(self._why_stopped(exchange))
        except RunInterruptedError as error:
            line = {"kind": "interrupted", "code": error.code, "missing": error.missing}
            kept.append({**line, "error": str(error)})
        except FLJobError as error:
            kept.append({"kind": "failed", "error": str(error)})
            export_results(kept, self._run_folder)
            self.system_panic(str(error), fl_ctx)
            return
        export_results(kept, self._run_folder)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Leave everything as it is: the journal stays readable until the process ends."""

    def process_result_of_unknown_task(
        self,
        client: Client,
        task_name: str,
        client_task_id: str,  # noqa: ARG002 - NVFlare's signature
        result: Shareable,  # noqa: ARG002
        fl_ctx: FLContext,
    ) -> None:
        """Drop an answer that came after its round was closed."""
        self.log_info(fl_ctx, f"{client.name} answered {task_name} too late; left out")

    def _run(self, kept: RunFolder, exchange: Exchange, fl_ctx: FLContext) -> None:
        spec = read_spec(self._config_folder, self._run_digest)
        session = self._open_session(spec, kept)
        facts = {"sites": self._sites, "job_id": fl_ctx.get_job_id(), "masked": _is_masked(spec)}
        kept.append({"kind": "start", "run_digest": self._run_digest, **facts, **self._started})
        rounds = self._open_rounds(spec, exchange)
        if session.next_order() is None:
            return  # all was done; the server died before the results were fetched
        if roster := rounds.set_up():
            kept.append(roster)
        while (order := session.next_order()) is not None:
            self._check_end(order, exchange)
            answered = rounds.gather(order)
            record = commit_record(kept, spec, order, session.fold(order, answered.gathered))
            missing = set(self._sites) - set(answered.gathered.sites) - answered.refusals.keys()
            lost = sorted({*exchange.lost(), *rounds.absent})
            about = {"refused": answered.refusals, "left_out": sorted(missing), "lost": lost}
            about["received_sha256"] = {site: answered.received[site] for site in answered.gathered.sites}
            if answered.masking is not None:
                about["masking"] = answered.masking
            kept.append({**record, **about})
            rounds.close(record.get("file_sha256", ""))

    def _open_session(self, spec: RunSpec, kept: RunFolder) -> ServerSession:
        """Go on after the last committed round: the journal on this disk knows it, the portal perhaps not."""
        start = max(self._start_round, kept.last_committed() + 1)
        self._started = {"start_round": start}
        previous = kept.read_round(start - 1) if start > 1 else {}
        for file in kept.phases().values() if start == 1 else ():
            previous |= kept.read_file(file)
        return ServerSession(
            spec,
            start_round=start,
            previous=previous,
            records=kept.all_lines(),
            load_round=kept.read_round,
        )

    def _open_rounds(self, spec: RunSpec, exchange: Exchange) -> Rounds:
        if not _is_masked(spec):
            return ClearRounds(exchange, spec, grace_s=self._grace_s)
        epoch = ServerEpoch(
            job_id=self._run_id,
            epoch=self._epoch,
            root_der=root_certificate(self._root_folder / "startup"),
            cohort_min=spec.min_sites,
            now=lambda: int(time.time()),
        )
        assert self._kept is not None  # noqa: S101 - start_controller ran
        cohorts = Cohorts(self._kept)
        return MaskedRounds(exchange, spec, epoch, cohorts, grace_s=self._grace_s)

    def _check_end(self, order: TaskOrder, exchange: Exchange) -> None:
        """At a round's boundary nothing is open: the best moment to let a site that is back take part."""
        if self._end_reason is not None and order.name in ("phase", "train"):
            raise RunInterruptedError(self._end_reason, code=REJOIN, missing=exchange.lost())

    def _why_stopped(self, exchange: Exchange) -> dict[str, Any]:
        """NVFlare ends a job itself once fewer than min_clients machines are alive."""
        spec = read_spec(self._config_folder, self._run_digest)
        left = exchange.at_work()
        if len(left) >= spec.min_sites:
            return {"kind": "stopped", "error": "The run was stopped; its committed rounds are kept."}
        sentence = (
            f"{len(left)} sites are left and the run needs {spec.min_sites}; committed rounds are kept. "
            "It goes on when the sites are back."
        )
        return {"kind": "interrupted", "code": TOO_FEW, "error": sentence, "missing": exchange.lost()}

    def _answer_journal(self, topic: str, data: Any, fl_ctx: FLContext) -> dict[str, Any]:  # noqa: ARG002
        since = data.get("since", 0) if isinstance(data, dict) else 0
        return self._kept.lines(since if isinstance(since, int) else 0) if self._kept else {}

    def _end_at_boundary(self, topic: str, data: Any, fl_ctx: FLContext) -> dict[str, Any]:  # noqa: ARG002
        reason = data.get("reason") if isinstance(data, dict) else None
        self._end_reason = str(reason or "The portal asked for the end of this NVFlare job.")[:300]
        return {"accepted": True}


def _is_masked(spec: RunSpec) -> bool:
    return spec.policy.secure_aggregation
