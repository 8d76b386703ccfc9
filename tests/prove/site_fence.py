"""Site life, item 4: NVFlare's own files at the sites hold where the portal's side permits everything.

The server's authorization is opened wide first, so what is refused here is refused by NVFlare's client at a
site, from the files that were compiled from the site's policy; our launcher is not even asked.
"""

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvflare.fuel.flare_api.api_spec import AuthorizationError, InternalError

from fl_jobs.approval.egress import read_lines
from fl_jobs.approval.refusals import read_refusals
from fl_jobs.packaging.job import SITE_APP, write_job
from site_kits.agent.fencing import Fence
from site_kits.provisioning import ca, flare_kit
from site_kits.site_home import SiteHome
from tests.approvals import STANDING, approve, write_policy
from tests.e2e.cytology import run_spec, write_site_data
from tests.e2e.federation import Federation, Run, admin_session, submit
from tests.prove.proof import Proof

ITEM = "4"
PATIENCE_S = 300
SITES = ("hospital-a", "hospital-b", "hospital-c")
LATE = SITES[2]  # its client started when its policy permitted nothing


def prove_fence(proof: Proof, root: Path) -> None:
    warnings.simplefilter("ignore")
    with Federation(root / "fenced") as federation:
        for index, name in enumerate(SITES):
            federation.add_site(name)
            write_site_data(federation.site_home(name), index, len(SITES))
        _open_the_server(federation)
        _another_submitter(federation, "eve")
        write_policy(federation.site_home(LATE), STANDING + "[studies]\nallow = []\n")
        Fence(SiteHome(federation.site_home(LATE))).renew()
        federation.start_server()
        federation.start_sites()
        write_policy(federation.site_home(LATE))  # from here on only NVFlare's memory is in the way
        with admin_session(federation, "ops") as ops:
            _commands(proof, federation, ops)
        with admin_session(federation, "eve") as eve:
            _refused_jobs(proof, federation, eve, "another lead of the federation's CA", "not authorized")
        with admin_session(federation, "runs") as session:
            _refused_jobs(proof, federation, session, "a job of another scope", "not allowed", _other_scope)
            _refused_jobs(proof, federation, session, "a job that brings code", "BYOC", _own_code)
            _ordinary(proof, federation, session)


def _open_the_server(federation: Federation) -> None:
    wide = {"format_version": "1.0", "permissions": {"project_admin": "any", "lead": "any"}}
    (federation.server.folder / "local" / "authorization.json").write_text(json.dumps(wide))


def _another_submitter(federation: Federation, name: str) -> None:
    key, certificate = ca.issue_service_identity(
        federation.ca_key, federation.ca_cert, name, "lead", "consilium", 30
    )
    folder = federation.admin_folder(name)
    flare_kit.write_admin_kit(folder, federation.facts, name, key, certificate, federation.root_pem)
    federation.allowed.add(name, certificate)


def _commands(proof: Proof, federation: Federation, ops: Any) -> None:
    """What NVFlare's operator could ask of a client; the server lets it pass, the site does not."""
    site = federation.sites[SITES[0]]
    before = site.process.pid if site.process else 0
    asked: dict[str, Callable[[], object]] = {
        "ls": lambda: ops.ls_target(site.name),
        "report_env": lambda: ops.get_client_env([site.name]),
        "report_resources": lambda: ops.report_resources("client", [site.name]),
        "restart": lambda: ops.restart("client", [site.name]),
        "shutdown": lambda: ops.shutdown("client", [site.name]),
    }
    obeyed = [name for name, ask in asked.items() if not _is_refused(ask)]
    time.sleep(3)  # a client that obeyed would be gone by now
    alive = site.process is not None and site.process.poll() is None and site.process.pid == before
    figure = f"{obeyed or 0} of {len(asked)}, its client still runs: {alive}"
    proof.check(ITEM, "NVFlare commands to a site that it obeys", figure, "0, True", alive and not obeyed)


def _is_refused(ask: Callable[[], object]) -> bool:
    try:
        said = str(ask())
    except (AuthorizationError, InternalError) as error:
        said = str(error)
    return "not authorized" in said or "failed to shut down" in said


def _refused_jobs(
    proof: Proof, federation: Federation, session: Any, what: str, word: str,
    change: Callable[[Path], None] = lambda _folder: None,
) -> None:  # fmt: skip
    """A job of a run that every site approved; two sites are open, the third is not."""
    spec, run_id = run_spec(rounds=1), ""
    for name in SITES:
        run_id = approve(federation.site_home(name), spec, run_id)
    folder = federation.root / "jobs" / "refused"
    write_job(folder, spec, run_id=run_id, epoch=1, start_round=1, sites=SITES, asked_by="eve")
    change(folder)
    run = Run(federation, session, run_id, session.submit_job(str(folder)))
    began = time.monotonic()
    status = run.wait_for_end()
    seconds = time.monotonic() - began
    said = _deployed(session, run)
    good = status == "FINISHED:FAILED_TO_RUN" and all(word in said[name] for name in SITES[:2])
    asked = f"stopped by our launcher or filters: {_asked(federation)}"
    figure = f"{said[SITES[0]]}; {status} after {seconds:.1f} s; {asked}"
    proof.check(ITEM, f"NVFlare at the sites refuses {what}", figure, f"“{word}”, 0",
                passed=good and _asked(federation) == 0)  # fmt: skip


def _deployed(session: Any, run: Run) -> dict[str, str]:
    """What each participant answered to the deployment."""
    detail = session.get_job_meta(run.job_id)["job_deploy_detail"]
    return dict(line.split(": ", 1) for line in detail if ": " in line)


def _asked(federation: Federation) -> int:
    """How often the launcher or a filter of ours had to stop something."""
    return sum(len(read_refusals(federation.site_home(name))) for name in SITES)


def _other_scope(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "scope": "elsewhere"}))


def _own_code(folder: Path) -> None:
    custom = folder / SITE_APP / "custom"
    custom.mkdir()
    (custom / "evil.py").write_text("print('here')\n")


def _ordinary(proof: Proof, federation: Federation, session: Any) -> None:
    """The same run for all: the site that began closed is left out until its client starts anew."""
    spec = run_spec(rounds=1, seed=8)
    run = submit(federation, session, spec, SITES)
    finish = run.wait_for("finish", timeout_s=PATIENCE_S)
    said = _deployed(session, run)[LATE]
    run.wait_for_end()
    left = len(list(read_lines(federation.site_home(LATE))))
    figure = f"{said}; {sorted(finish['sites'])} finished, {left} answers left it"
    good = "not authorized" in said and sorted(finish["sites"]) == sorted(SITES[:2]) and left == 0
    claim = "a client that began with a policy that permits nothing, policy.toml opened since"
    proof.check(ITEM, claim, figure, "not authorized, the others finish", passed=good)
    federation.kill(federation.sites[LATE])
    federation.start_sites([LATE])
    federation.wait_until_online(session, SITES)
    run = submit(federation, session, spec, SITES)
    finish = run.wait_for("finish", timeout_s=PATIENCE_S)
    run.wait_for_end()
    figure = f"{sorted(finish['sites'])}, stopped by our launcher or filters: {_asked(federation)}"
    good = sorted(finish["sites"]) == sorted(SITES)
    proof.check(ITEM, "an ordinary run with the compiled files", figure, "all three finish", passed=good)
