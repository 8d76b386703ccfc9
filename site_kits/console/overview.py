"""The first page: what this site is doing, in plain words, for the person who looks after it."""

import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fl_jobs.approval import site_policy
from fl_jobs.approval.egress import read_lines
from fl_jobs.errors import FLJobError
from fl_jobs.packaging.spec import RunSpec
from site_kits.agent.datasets import registered_cards
from site_kits.site_home import SiteHome, read_serving, read_state

_FRESH_S = 25  # the agent writes every 5 to 15 s
_RUNS_SHOWN = 3
_ELSEWHERE = ("approvals",)  # the page says these in words of its own


def facts(home: SiteHome) -> dict[str, Any]:
    """What the page shows now; it reloads itself twice a minute without script."""
    status = read_state(home.status_json)
    nothing: dict[str, Any] = {}
    alive = time.time() - float(status.get("written_at") or 0) < _FRESH_S
    heard = status.get("portal", nothing).get("last_heartbeat", "")
    told = {topic: text for topic, text in status.get("problems", nothing).items() if topic not in _ELSEWHERE}
    problems = list(told.values()) if alive else []
    return {
        "client": {"state": "", "restarts": 0} | status.get("client", nothing),
        "inference": {"state": "", "url": ""} | status.get("inference", nothing),
        "certificate_days_left": status.get("certificate_days_left"),
        "alive": alive,
        "heard": heard,
        "problems": problems,
        "good": alive and not problems and bool(heard),
        "datasets": registered_cards(home),
        "models": _models(home, status.get("serving", [])),
        "runs": _runs(home),
        "something_left": next(read_lines(home.root), None) is not None,
        "shares_metrics": _shares_metrics(home),
    }


def _shares_metrics(home: SiteHome) -> bool:
    """Whether this site's own figures leave; without a usable policy nothing does."""
    try:
        return site_policy(home.root).output.share_site_metrics
    except FLJobError:
        return False


def _models(home: SiteHome, states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ordered models with what the heartbeat last heard of each."""
    said = {str(state.get("promotion")): state for state in states}
    return [
        {
            "label": order.version_label or order.study,
            "study": order.study,
            "arm": order.arm,
            "round": order.round,
            "state": said.get(str(order.promotion), {}).get("state", "loading"),
            "detail": said.get(str(order.promotion), {}).get("detail", ""),
        }
        for order in read_serving(home).orders
    ]


def _runs(home: SiteHome) -> list[dict[str, Any]]:
    """The newest runs this site took part in, with the tensors that left it."""
    paths = sorted(home.root.glob("personal/*/*/*/run_spec.json"), key=_changed, reverse=True)
    runs = []
    for path in paths[:_RUNS_SHOWN]:
        try:
            spec = RunSpec.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        tensors = [(tensor, " × ".join(map(str, tensor.shape)) or "1") for tensor in spec.tensors]
        numbers = sum(tensor.size for tensor in spec.shared().values())  # that leave in one round
        runs.append({"spec": spec, "digest": spec.digest(), "tensors": tensors, "numbers": numbers})
    return runs


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
