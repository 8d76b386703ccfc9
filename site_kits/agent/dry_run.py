"""One round of a requested run on this site's own data, in a process of its own; nothing is sent."""

import json
import os
import subprocess
import sys
from typing import Any

from fl_jobs.approval.records import run_folder
from site_kits.agent.answer_titles import answer_title
from site_kits.agent.requests import load_request
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, read_state
from site_kits.translation import _

TIMEOUT_S = 3600
REPORT = "dry_run.json"


def perform_dry_run(home: SiteHome, run_id: str) -> dict[str, Any]:
    """Do it and return the report (see :mod:`fl_jobs.flare.dry_run`). Raises AgentError with a sentence."""
    full_id = load_request(home, run_id).request.run_id
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CONSILIUM_SITE_HOME": str(home.root)}
    command = [
        sys.executable,
        "-P",
        "-m",
        "fl_jobs.flare.dry_run",
        "--home",
        str(home.root),
        "--run",
        full_id,
    ]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AgentError(
            _(
                "One round took longer than {minutes} minutes and was ended. Try again when the "
                "machine is idle."
            ).format(minutes=TIMEOUT_S // 60)
        ) from error
    if done.returncode == 2:
        raise AgentError(done.stderr.strip().splitlines()[-1])
    report = read_dry_run(home, full_id)
    if done.returncode != 0 or report is None:
        raise AgentError(_("The dry run ended without a result. Is there enough memory on this machine?"))
    return report


def read_dry_run(home: SiteHome, run_id: str) -> dict[str, Any] | None:
    """The report of the last dry run of this run; None when there is none."""
    return read_state(run_folder(home.root, run_id) / REPORT) or None


def render_dry_run(report: dict[str, Any]) -> str:
    """The report for a person."""
    lines = [
        _("Run {run}: first round on this site's own data in {seconds} s. Nothing was sent.").format(
            run=report["run_id"][:8], seconds=report["seconds"]
        )
    ]
    for answer in report["answers"]:
        how = _("under masks, in one vector") if report["masked"] else _("readable by the server")
        lines.append(
            _("{task}: tensors {count}, {bytes} bytes would leave {how}:").format(
                task=answer_title(answer["task"]),
                count=len(answer["tensors"]),
                bytes=answer["number_bytes"],
                how=how,
            )
        )
        lines += [
            f"  {tensor['name']}  {'×'.join(map(str, tensor['shape'])) or '1'}  {tensor['bytes']} B"
            for tensor in answer["tensors"]
        ]
        lines.append(_("  and beside them:"))
        lines.append("  " + json.dumps(answer["described"], ensure_ascii=False, sort_keys=True))
    return "\n".join(lines)
