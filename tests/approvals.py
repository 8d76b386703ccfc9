"""A site's approval as its agent would keep it, and a job as NVFlare would deploy it."""

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

from compliance.policy import Policy
from fl_jobs.approval import RunRequest, SiteDecision
from fl_jobs.packaging.job import SPEC_FILE, client_config_bytes
from fl_jobs.packaging.spec import RunSpec
from site_kits.agent.fencing import Fence
from site_kits.agent.requests import decide_by_policy, keep_request
from site_kits.site_home import SiteHome

STANDING = '[approval]\nmode = "standing"\n'


def write_policy(home: Path, text: str = STANDING) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "policy.toml").write_text(text)


def make_request(spec: RunSpec, run_id: str, **more: object) -> RunRequest:
    facts = {
        "run_id": run_id,
        "run_digest": spec.digest(),
        "study_title": "A study",
        "asked_by": "dana",
        "asked_at": datetime.now(UTC).isoformat(),
        "sites": ["hospital-a"],
        "spec": spec.model_dump(mode="json"),
        **more,
    }
    return RunRequest.model_validate_json(json.dumps(facts, default=lambda model: model.model_dump()))


def approve(home: Path, spec: RunSpec, run_id: str = "", **more: object) -> str:
    """Ask the site, whose policy is standing unless it has one, and let its policy decide."""
    run_id = run_id or str(uuid.uuid4())
    if not (home / "policy.toml").exists():
        write_policy(home)
    request = make_request(spec, run_id, **more)
    keep_request(SiteHome(home), request)
    decide_by_policy(SiteHome(home), request)
    if (home / "flare" / "local").is_dir():
        Fence(SiteHome(home)).renew()
    return run_id


def approved_by_person(home: Path, spec: RunSpec, run_id: str) -> None:
    """The same, as if a person had clicked."""
    decision = SiteDecision(
        run_id=run_id,
        run_digest=spec.digest(),
        approve=True,
        by="person",
        person="olaf",
        decided_at="2026-12-01T00:00:00.000+00:00",
        policy=Policy(),
    )
    (home / "requests" / run_id / "decision.json").write_text(decision.model_dump_json())


def deploy(app: Path, spec: RunSpec, run_id: str, epoch: int = 1) -> Path:
    """The two files of a site's app below ``app``."""
    config = app / "config"
    config.mkdir(parents=True)
    (config / SPEC_FILE).write_bytes(spec.canonical())
    client = client_config_bytes(run_id=run_id, run_digest=spec.digest(), epoch=epoch)
    (config / "config_fed_client.json").write_bytes(client)
    return app
