"""Site life, items 4 and 5: only what a site approved runs there, only what it declared leaves, policy laws.

Everything but the laws is shown at the functions the site runs: the gate on job folders, the result filter on
NVFlare's own messages, and a real federation whose jobs are submitted past the portal.
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fl_jobs.approval import admit
from fl_jobs.approval.egress import read_lines
from fl_jobs.approval.refusals import read_refusals
from fl_jobs.errors import NotApprovedError
from fl_jobs.packaging.job import SITE_APP, write_job
from fl_jobs.packaging.spec import RunSpec
from site_kits.agent.dry_run import perform_dry_run
from site_kits.agent.requests import decide
from site_kits.site_home import SiteHome
from tests.approvals import STANDING, approve, write_policy
from tests.compliance.policies import LAWS, hold
from tests.e2e.cytology import run_spec, write_site_data
from tests.e2e.federation import Federation, Run, admin_session, submit
from tests.fl_jobs.mutations import MUTATIONS, copied, mutate
from tests.prove.proof import Proof
from tests.prove.site_fence import prove_fence
from tests.prove.site_smuggling import prove_smuggling

SITES = ("hospital-a", "hospital-b", "hospital-c")
RUN_ID = "0d9bd0a5-4d4f-4b6a-9d4c-0f5be1f0a0a1"


def prove_approval(proof: Proof, *, full: bool) -> None:
    """Item 4."""
    with tempfile.TemporaryDirectory(prefix="site-approval-") as folder:
        prove_mutations(proof, Path(folder), 1000 if full else 60)
        prove_smuggling(proof, Path(folder), 100 if full else 5)
        prove_federation(proof, Path(folder))
        prove_fence(proof, Path(folder))


def prove_policy_laws(proof: Proof, *, full: bool) -> None:
    """Item 5."""
    examples = 5000 if full else 500
    for name in LAWS:
        hold(name, examples)
        proof.check("5", f"policies: the meet is {name}", f"{examples} drawn cases hold", "all", passed=True)


def prove_mutations(proof: Proof, root: Path, count: int) -> None:
    """A real job folder, deployed as NVFlare does, changed in ``count`` ways."""
    spec, home, job = run_spec(rounds=2), root / "site", root / "job"
    approve(home, spec, RUN_ID)
    write_job(job, spec, run_id=RUN_ID, epoch=1, start_round=1, sites=SITES, asked_by="dana")
    app = job / SITE_APP
    admit(home, app)  # the very job runs
    admitted, kinds = [], list(MUTATIONS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        with copied(app, root / "changed") as changed:
            done = mutate(changed, kind, number)
            try:
                admit(home, changed)
            except NotApprovedError:
                continue
            admitted.append(done)
    restart = root / "restart"
    write_job(restart, spec, run_id=RUN_ID, epoch=7, start_round=1, sites=SITES, asked_by="dana")
    admit(home, restart / SITE_APP)
    proof.note(
        "4", "free by design (ADR 14): the number of the job's start, which every resumption counts up"
    )
    figure = f"{len(admitted)} of {count} ran ({len(kinds)} kinds) {admitted[:3] or ''}".strip()
    proof.check("4", "changed jobs that the site starts", figure, "0", passed=not admitted)
    admit(home, app)


def prove_federation(proof: Proof, root: Path) -> None:
    """Real NVFlare processes; jobs are submitted with its API, past the portal."""
    warnings.simplefilter("ignore")
    spec = run_spec(rounds=2)
    with Federation(root / "federation") as federation:
        for index, name in enumerate(SITES):
            federation.add_site(name)
            write_site_data(federation.site_home(name), index, len(SITES))
        federation.start_server()
        federation.start_sites()
        with admin_session(federation, "runs") as session:
            _approved_by_two(proof, federation, session, spec)
            _never_asked(proof, federation, session, spec)
            _changed_on_the_way(proof, federation, session, spec)
            _tightened(proof, federation, session)
        _dry_run(proof, federation, spec)


def _approved_by_two(proof: Proof, federation: Federation, session: Any, spec: RunSpec) -> None:
    """One site refuses, and the job is sent to it all the same."""
    keeper = SiteHome(federation.site_home(SITES[2]))
    for name in SITES:
        approve(federation.site_home(name), spec, RUN_ID)
    decide(keeper, RUN_ID, False, "The board objects.", "olaf")
    run = submit(federation, session, spec, SITES, run_id=RUN_ID, asked=False)
    finish = run.wait_for("finish")
    run.wait_for_end()
    went_on = sorted(finish["sites"]) == sorted(SITES[:2])
    proof.check("4", "a site that refused is left out, the others finish", sorted(finish["sites"]),
                "two sites", passed=went_on)  # fmt: skip
    proof.check("4", "the refused job leaves a sentence", _stopped(federation, SITES[2], run), "has refused",
                passed="has refused" in _stopped(federation, SITES[2], run))  # fmt: skip
    left = len(list(read_lines(keeper.root)))
    proof.check("4", "answers that left the site that refused", left, "0", passed=left == 0)
    _reconcile(proof, federation, run)


def _reconcile(proof: Proof, federation: Federation, run: Run) -> None:
    """The site's meter against what the journal, which the portal reads, says it received."""
    told = {
        (name, line["round"]): int(metrics["system"]["bytes_up"])
        for line in run.lines
        if line["kind"] == "round"
        for name, metrics in line["site_metrics"].items()
        if metrics and "system" in metrics
    }
    metered = {
        (name, line.round): line.number_bytes
        for name in SITES
        for line in read_lines(federation.site_home(name), run.run_id)
        if line.task == "train"
    }
    figure = (
        f"{len(told)} site-rounds, {sum(told.values())} bytes at the portal, {sum(metered.values())} metered"
    )
    proof.check(
        "4", "meter and journal name the same bytes", figure, "equal", passed=bool(told) and told == metered
    )


def _never_asked(proof: Proof, federation: Federation, session: Any, spec: RunSpec) -> None:
    other = spec.model_copy(update={"seed": 8})
    run = submit(federation, session, other, SITES, asked=False)
    _none_ran(proof, federation, session, run, "a job that no site was asked about", "never asked")


def _changed_on_the_way(proof: Proof, federation: Federation, session: Any, spec: RunSpec) -> None:
    """Approved digests, other files: what somebody with the portal's NVFlare identity could try."""
    more = spec.hyper_parameters | {"learning_rate": 0.5}
    for what, word, change in (
        (
            "one hyper-parameter changed, digest left",
            "run_spec.json",
            _write_spec(spec, hyper_parameters=more),
        ),
        ("one byte more in the specification", "run_spec.json", _append_byte),
        ("a second configuration beside it", "config_fed_client.conf", _add_configuration),
    ):
        run_id = ""
        for name in SITES:
            run_id = approve(federation.site_home(name), spec, run_id)
        folder = federation.root / "jobs" / "changed"
        write_job(folder, spec, run_id=run_id, epoch=1, start_round=1, sites=SITES, asked_by="dana")
        change(folder / SITE_APP / "config")
        run = Run(federation, session, run_id, session.submit_job(str(folder)))
        _none_ran(proof, federation, session, run, what, word)


def _none_ran(proof: Proof, federation: Federation, session: Any, run: Run, what: str, word: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all(_stopped(federation, name, run) for name in SITES):
        time.sleep(0.2)
    time.sleep(3)  # what started all the same would be seen by now
    run.poll()
    processes = sum(len(federation.sites[name].job_processes()) for name in SITES)
    session.abort_job(run.job_id)
    run.wait_for_end()
    left = [name for name in SITES if list(read_lines(federation.site_home(name), run.run_id))]
    said = [word in _stopped(federation, name, run) for name in SITES]
    rounds = sum(line["kind"] == "round" for line in run.lines)
    figure = f"{processes} job processes, {len(left)} sites sent, {sum(said)} of {len(said)} said why"
    proof.check("4", what, figure, "0, 0", passed=not (left or rounds or processes) and all(said))


def _tightened(proof: Proof, federation: Federation, session: Any) -> None:
    """A policy that is tightened in the middle of a run."""
    spec = run_spec(rounds=200, seed=9)
    run = submit(federation, session, spec, SITES)
    run.wait_for("round", 1)
    write_policy(federation.site_home(SITES[2]), STANDING + '[algorithms]\ndeny = ["dbe"]\n')
    before = len(run.lines)
    for _ in range(300):
        run.poll()
        last = run.lines[-1]
        if last["kind"] == "round" and SITES[2] not in last["sites"]:
            break
    after = [line for line in run.lines[before:] if line["kind"] == "round"]
    without = [line["round"] for line in after if SITES[2] not in line["sites"]]
    late = len(after) - len(without)
    session.abort_job(run.job_id)
    run.wait_for_end()
    proof.check("4", "rounds after a tightening with that site", f"{late}, then without it", "at most 3",
                passed=bool(without) and late <= 3)  # fmt: skip
    write_policy(federation.site_home(SITES[2]))


def _dry_run(proof: Proof, federation: Federation, spec: RunSpec) -> None:
    home = federation.site_home(SITES[0])
    before = sorted(str(path) for path in home.rglob("*") if "requests" not in path.parts)
    run_id = approve(home, spec.model_copy(update={"seed": 11}))
    report = perform_dry_run(SiteHome(home), run_id)
    train = next(answer for answer in report["answers"] if answer["task"] == "train")
    declared = {tensor.wire_name: list(tensor.shape) for tensor in spec.shared().values()}
    shown = {tensor["name"]: tensor["shape"] for tensor in train["tensors"]}
    after = sorted(str(path) for path in home.rglob("*") if "requests" not in path.parts)
    figure = f"{len(shown)} tensors, {report['seconds']} s"
    proof.check("4", "dry run: what would leave is what is declared", figure,
                f"{len(declared)} tensors", passed=shown == declared)  # fmt: skip
    proof.check("4", "dry run leaves nothing behind but its report", f"{len(set(after) - set(before))} files",
                "0", passed=after == before)  # fmt: skip


def _stopped(federation: Federation, site: str, run: Run) -> str:
    """What the site says about the job that it did not start."""
    refusals = read_refusals(federation.site_home(site))
    return next((str(each["sentence"]) for each in refusals if each["job"] == run.job_id), "")


def _write_spec(spec: RunSpec, **changes: object) -> Callable[[Path], None]:
    changed = spec.model_copy(update=changes)
    return lambda config: (config / "run_spec.json").write_bytes(changed.canonical()) and None


def _append_byte(config: Path) -> None:
    with (config / "run_spec.json").open("ab") as file:
        file.write(b" ")


def _add_configuration(config: Path) -> None:
    (config / "config_fed_client.conf").write_text("format_version = 2\n")
