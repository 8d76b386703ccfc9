"""The claims about real runs: benefit tables under masks; the simulator says what a real run says."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from fl_jobs.messages import SYSTEM
from fl_jobs.packaging.spec import RunSpec
from fl_jobs.simulate import run_in_process
from infra.demo.datasets import STUDIES, DemoStudy
from tests.bench.real_runs import ARMS, data_home
from tests.e2e.federation import Federation, Run, admin_session, submit
from tests.e2e.studies import run_spec, study_federation
from tests.prove.proof import Proof
from tests.prove.running import FOLDER, REPOSITORY

ALGORITHMS = "fedcp,dbe,gpfl"
FULL = {"dermoscopy": 5, "heart": 5, "histology": 5, "hotline": 5}  # seeds by study
SMALL = {"heart": 1, "hotline": 1}
SMALL_ROUNDS, SMALL_REQUESTS = 3, 300
KEPT = Path(REPOSITORY) / "tests" / "bench" / "real_runs.jsonl"
AGAIN = 1  # of each study's kept runs
ITEM_TABLES, ITEM_SAME = "4", "5"
# ring 64: half a step of 2^-40 a site and one rounding to float32 a round; what training makes of it later
MASKED_BOUND = 0.005
ROUNDS_COMPARED = 3


def real_runs(proof: Proof, *, full: bool) -> None:
    """Masked NVFlare runs of FedCP, DBE and GPFL on every study there is data for; the tables they give."""
    folder = FOLDER / "real_runs"
    for name, seeds in (FULL if full else SMALL).items():
        if not _has_data(STUDIES[name]()):
            if full:
                proof.check(
                    ITEM_TABLES, f"{name}: data", "not on this machine", "CONSILIUM_DATA", passed=False
                )
            else:
                proof.note(ITEM_TABLES, f"{name}: not run, its data are not on this machine")
            continue
        command = [sys.executable, "-m", "tests.bench.real_runs", "--study", name, "--algorithms", ALGORITHMS]
        command += ["--seeds", str(seeds), "--folder", str(folder)]
        small = ["--rounds", str(SMALL_ROUNDS), "--requests", str(SMALL_REQUESTS)]
        command += ["--keep", str(KEPT), "--again", str(AGAIN)] if full else small
        code = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        proof.check(ITEM_TABLES, f"{name}: all runs complete", f"exit {code}", "exit 0", code == 0)
        if code == 0:
            _check_table(
                proof, name, seeds, json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            )


def _check_table(proof: Proof, name: str, seeds: int, figures: dict[str, Any]) -> None:
    """Whether the table is whole; what it says of benefit is a finding, not a bound."""
    sites = len(STUDIES[name]().sites)
    found = figures["algorithms"]
    cells = [
        row["cells"][arm][figures["endpoint"]]
        for result in found.values()
        for row in result["sites"].values()
        for arm in ARMS
    ]
    wanted = len(ALGORITHMS.split(",")) * sites * len(ARMS)
    whole = len(cells) == wanted and all(cell is not None for cell in cells)
    proof.check(
        ITEM_TABLES, f"{name}: cells of {sites} sites", f"{len(cells)}", f"{wanted}, none empty", whole
    )
    proof.check(
        ITEM_TABLES, f"{name}: seeds", len(figures["seeds"]), f"{seeds}", len(figures["seeds"]) == seeds
    )
    proof.check(ITEM_TABLES, f"{name}: under masks", figures["masked"], "True", figures["masked"] is True)
    for one in figures["again"]:
        claim = f"{name}: run again, {one['algorithm']} seed {one['seed']}, largest move of a cell"
        if one["same_processor"]:  # sums under masks are exact, whatever the order sites answer in
            proof.check(ITEM_TABLES, claim, one["moved"], "0 on one processor", one["moved"] == 0)
        else:
            proof.note(ITEM_TABLES, f"{claim}: {one['moved']:.2g}, on another processor")
    for algorithm, result in found.items():
        verdict = result["federation"]
        said = f"no site harmed {verdict['no_site_harmed']}; helped {', '.join(verdict['helped']) or 'none'}"
        proof.note(ITEM_TABLES, f"{name}, {algorithm}, by the rule: {said}")


def same_as_simulated(proof: Proof, *, study: str = "cytology", algorithm: str = "dbe") -> None:
    """The same job simulated, over NVFlare in the clear, and over NVFlare under masks."""
    warnings.simplefilter("ignore")
    chosen = STUDIES[study]()
    with (
        tempfile.TemporaryDirectory(prefix="consilium-same-") as folder,
        study_federation(chosen, Path(folder), data_home()) as federation,
        admin_session(federation, "runs") as session,
    ):
        for masked in (False, True):
            spec = run_spec(chosen, algorithm, seed=7 + masked, rounds=ROUNDS_COMPARED, masked=masked)
            simulated = run_in_process(spec, _copies(federation, Path(folder) / f"copy-{masked}"))
            real = _real(federation, session, spec, chosen)
            count, worst, where = largest_difference(simulated, real)
            figure = f"{worst:.3g} at {where or 'none'}, {count} figures"
            if masked:
                claim, bound = "masked run against the simulator", f"≤ {MASKED_BOUND}"
                proof.check(ITEM_SAME, claim, figure, bound, count > 0 and worst <= MASKED_BOUND)
            else:
                digests = _digests(simulated) == _digests(real)
                claim = "plain run against the simulator"
                proof.check(ITEM_SAME, claim, figure, "identical", count > 0 and worst == 0)
                proof.check(ITEM_SAME, "their models at every site", digests, "the same SHA-256", digests)


def _copies(federation: Federation, root: Path) -> dict[str, Path]:
    """The sites' registered data, without what real runs leave there."""
    for name in federation.sites:
        for part in ("data", "registered"):
            shutil.copytree(federation.site_home(name) / part, root / name / part)
    return {name: root / name for name in federation.sites}


def _real(federation: Federation, session: Any, spec: RunSpec, study: DemoStudy) -> list[dict[str, Any]]:
    run: Run = submit(federation, session, spec, [site.name for site in study.sites])
    run.wait_for("finish", timeout_s=900)
    run.wait_for_end()
    return run.lines


def largest_difference(simulated: list[dict[str, Any]], real: list[dict[str, Any]]) -> tuple[int, float, str]:
    """How many figures of rounds, validation and finish were compared, the largest difference, and where.

    A figure that only one of the two has counts as infinitely different.
    """
    mine, theirs = _figures(simulated), _figures(real)
    worst, where = 0.0, ""
    for key in sorted(mine.keys() | theirs.keys()):
        both = key in mine and key in theirs
        difference = abs(mine[key] - theirs[key]) if both else float("inf")
        if difference > worst:
            worst, where = difference, key
    return len(mine), worst, where


def _figures(records: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for record in records:
        kind = record["kind"]
        if kind == "round":
            name = f"round {record['round']}"
            parts = {key: record[key] for key in ("cohort", "site_metrics", "validated")}
        elif kind in ("validate", "finish"):
            name = kind
            parts = {key: record[key] for key in ("validated", "chosen", "sites", "cohort") if key in record}
        else:
            continue
        _flatten(found, name, parts)
    return found


def _flatten(found: dict[str, float], name: str, value: object) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != SYSTEM:  # what the round cost is no figure of the model, and a simulator has none
                _flatten(found, f"{name}/{key}", inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found[name] = float(value)


def _digests(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The SHA-256 of every model file a site wrote at the end."""
    finish = next(record for record in records if record["kind"] == "finish")
    return {
        site: (report["files"], report["shared_sha256"]) for site, report in sorted(finish["sites"].items())
    }


def _has_data(study: DemoStudy) -> bool:
    home = os.environ.get("CONSILIUM_DATA")
    return not study.data_file or (home is not None and (Path(home) / study.data_file).exists())
