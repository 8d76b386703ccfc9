"""``python -m tests.bench.real_runs --study heart --algorithms fedcp,dbe,gpfl --seeds 5``: real runs.

One federation per study (NVFlare server, one client process per site, mutual TLS), every run on it under
masks. Figures of one site are joined over seeds as ``fl_jobs.benefit`` does: seeds are averaged within a
group, the groups are resampled, 'no site harmed' and 'helped' follow the rule of the run specification.
Writes one JSON file a study into ``--folder``; ``--markdown`` prints the tables of all studies found there.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from fl_jobs.benefit import judge_federation
from fl_jobs.benefit.evidence import EVIDENCE, Evidence, judge_seeds, read_evidence
from fl_jobs.packaging.spec import RunSpec, run_folder_name
from infra.demo.datasets import STUDIES, DemoStudy, hotline
from tests.bench.again import drawn
from tests.bench.kept_rows import KeptRows, processor
from tests.bench.kept_runs import Asked, cells_of, code_behind, kept_algorithms, largest_move
from tests.e2e.federation import Federation, Run, admin_session, submit
from tests.e2e.studies import study_federation

ARMS = ("local", "global", "tuned", "personal")
# thirty test callers of each of ten departments need so many requests of a province; the demo has fewer
HOTLINE_REQUESTS = 6000
RUN_LIMIT_S = 3600
FOLDER = Path(__file__).resolve().parents[2] / "var" / "real_runs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", choices=tuple(STUDIES))
    parser.add_argument("--algorithms", default="fedcp,dbe,gpfl")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, help="default: the study's")
    parser.add_argument("--requests", type=int, default=HOTLINE_REQUESTS, help="of each hotline province")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--keep", type=Path, help="a file; algorithms in it are not measured again")
    parser.add_argument("--again", type=int, default=0, help="so many kept runs are measured again")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if options.study:
        is_hotline = options.study == "hotline"
        study = hotline(options.requests) if is_hotline else STUDIES[options.study]()
        kept = KeptRows(options.keep)
        requests = options.requests if is_hotline else 0
        algorithms = tuple(options.algorithms.split(","))
        asked = Asked(study, algorithms, options.seeds, options.rounds, requests)
        figures = {"study": options.study, **measure(asked, kept, options.again)}
        options.folder.mkdir(parents=True, exist_ok=True)
        path = options.folder / f"{options.study}.json"
        path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.markdown or not options.study:
        for path in sorted(options.folder.glob("*.json")):
            sys.stdout.write(as_markdown(json.loads(path.read_text(encoding="utf-8"))) + "\n")
    return 0


def data_home() -> Path | None:
    named = os.environ.get("CONSILIUM_DATA")
    return Path(named) if named else None


def measure(asked: Asked, kept: KeptRows, again: int = 0) -> dict[str, Any]:
    """What each site reached and the verdicts, of every algorithm, measured or kept."""
    rows = kept_algorithms(asked, kept)
    runs = {(name, seed): row["processor"] for name, row in rows.items() for seed in asked.all_seeds()}
    repeats = drawn(runs, again)
    missing = [name for name in asked.algorithms if name not in rows]
    moved: list[dict[str, Any]] = []
    if missing or repeats:
        with federation_of(asked.study) as run_one:
            for name in missing:
                rows[name] = measure_algorithm(asked, name, run_one)
                kept.add(rows[name])
            moved = [repeated(rows[name], seed, run_one(asked.spec(name, seed))) for name, seed in repeats]
    spec = asked.spec(asked.algorithms[0])
    return {
        "title": asked.study.title,
        "synthetic": asked.study.synthetic,
        "endpoint": spec.analysis.endpoint,
        "margin": spec.analysis.margin,
        "minimum_groups": spec.analysis.minimum_groups,
        "rounds": spec.rounds,
        "seeds": asked.all_seeds(),
        "masked": all(rows[name]["masked"] for name in asked.algorithms),
        "seconds_per_run": round(fmean(rows[name]["seconds"] for name in asked.algorithms), 1),
        "again": moved,
        "algorithms": {name: rows[name]["result"] for name in asked.algorithms},
    }


@contextmanager
def federation_of(study: DemoStudy) -> Iterator[Callable[[RunSpec], dict[str, Any]]]:
    """Plays one run after another on one federation of the study's sites."""
    warnings.simplefilter("ignore")  # NVFlare's console
    with (
        tempfile.TemporaryDirectory(prefix="consilium-real-") as folder,
        study_federation(study, Path(folder), data_home()) as federation,
        admin_session(federation, "runs") as session,
    ):
        yield lambda spec: one_run(federation, session, study, spec)


def repeated(row: dict[str, Any], seed: int, run: dict[str, Any]) -> dict[str, Any]:
    """By how much the cells of a kept run and of ``run``, its repetition, differ."""
    return {
        "algorithm": row["algorithm"],
        "seed": seed,
        "moved": largest_move(row["by_seed"][str(seed)], cells_of(run)),
        "same_processor": row["processor"] == processor(),
    }


def measure_algorithm(
    asked: Asked, algorithm: str, run_one: Callable[[RunSpec], dict[str, Any]]
) -> dict[str, Any]:
    """All seeds of one algorithm, as the line that is kept."""
    runs, seconds = {}, []
    for seed in asked.all_seeds():
        began = time.monotonic()
        runs[str(seed)] = run_one(asked.spec(algorithm, seed))
        seconds.append(time.monotonic() - began)
        print(f"{asked.study.slug} {algorithm} seed {seed}: {seconds[-1]:.0f} s", file=sys.stderr)
    return {
        "study": asked.study.slug,
        "requests": asked.requests,
        "algorithm": algorithm,
        "code": code_behind(asked.spec(algorithm)),
        "masked": asked.spec(algorithm).policy.secure_aggregation,  # one_run looked at every round
        "processor": processor(),
        "seconds": round(fmean(seconds), 1),
        "by_seed": {seed: cells_of(run) for seed, run in runs.items()},
        "result": judge(list(runs.values()), asked.study),
    }


def one_run(federation: Federation, session: Any, study: DemoStudy, spec: RunSpec) -> dict[str, Any]:
    """One real run to its end: the finish line of the journal, and what each site keeps of its test part."""
    names = [site.name for site in study.sites]
    run: Run = submit(federation, session, spec, names)
    finish = run.wait_for("finish", timeout_s=RUN_LIMIT_S)
    run.wait_for_end(timeout_s=120)
    rounds = [line for line in run.lines if line["kind"] == "round"]
    masked = all(line.get("masking", {}).get("cohort") for line in rounds)
    if len(rounds) != spec.rounds or masked != spec.policy.secure_aggregation:
        raise RuntimeError(f"{len(rounds)} rounds, masked: {masked}; the run is not what was asked for")
    return {"finish": finish, "evidence": [_evidence(federation, spec, run.run_id, name) for name in names]}


def _evidence(federation: Federation, spec: RunSpec, run_id: str, site: str) -> Evidence:
    folder = federation.site_home(site) / "personal" / spec.study.slug / spec.algorithm
    return read_evidence(folder / run_folder_name(spec.digest(), run_id) / EVIDENCE)


def judge(runs: list[dict[str, Any]], study: DemoStudy) -> dict[str, Any]:
    """Cells averaged over seeds, differences and verdicts over all seeds as one analysis."""
    differences = judge_seeds([evidence for run in runs for evidence in run["evidence"]])
    candidate = runs[0]["evidence"][0].spec.candidate()
    verdict = judge_federation({site: arms[candidate] for site, arms in differences.items()})
    sites = {}
    for site in (each.name for each in study.sites):
        reports = [run["finish"]["sites"][site] for run in runs]
        sites[site] = {
            "rows": reports[0]["rows"],
            "cells": {arm: _means([report["cells"][arm] for report in reports]) for arm in ARMS},
            "differences": {arm: found.as_json() for arm, found in differences[site].items()},
            "proposals": [report["proposal"] for report in reports],
        }
    return {"candidate": candidate, "federation": asdict(verdict), "sites": sites}


def _means(cells: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean over seeds of each figure; None where a seed has none."""
    columns = {name: [cell.get(name) for cell in cells] for name in cells[0]}
    return {
        name: None if any(value is None for value in values) else fmean(v for v in values if v is not None)
        for name, values in columns.items()
    }


def as_markdown(figures: dict[str, Any]) -> str:
    """The table of one study, for docs/benchmarks.md."""
    seeds, margin = len(figures["seeds"]), 100 * figures["margin"]
    lines = [
        f"### {figures['title']}",
        "",
        f"{figures['endpoint'].replace('_', ' ')} in %, mean of {seeds} seeds; {figures['rounds']} rounds, "
        f"{'masked' if figures['masked'] else 'plain'}; {figures['seconds_per_run']} s a run. Δ is the "
        f"candidate minus local-only with its 95 % interval and, after ≥, the one-sided 95 % lower bound "
        f"(margin −{margin:g} points).",
        "",
        "| algorithm | site | test cases | local | global | + fine-tune | personal | Δ personal | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for algorithm, found in figures["algorithms"].items():
        for site, row in found["sites"].items():
            figure = (_percent(row["cells"][arm][figures["endpoint"]]) for arm in ARMS)
            change = row["differences"][found["candidate"]]
            lines.append(
                f"| {algorithm} | {site} | {row['rows']['test']} | {' | '.join(figure)} | {_change(change)} "
                f"| {change['verdict']} |"
            )
        lines.append(_over_all(algorithm, found["federation"]))
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _change(change: dict[str, Any]) -> str:
    text = f"{100 * change['value']:+.1f} ({100 * change['low']:+.1f} … {100 * change['high']:+.1f})"
    return text if change["lower"] is None else f"{text}, ≥ {100 * change['lower']:+.1f}"


def _over_all(algorithm: str, verdict: dict[str, Any]) -> str:
    said = [f"no site harmed: {verdict['no_site_harmed']}"]
    said += [f"{word}: {', '.join(verdict[word])}" for word in ("helped", "harmed") if verdict[word]]
    if verdict["untested"]:
        said.append(f"cannot be tested: {', '.join(verdict['untested'])}")
    return f"| {algorithm} | **all sites** | | | | | | | {'; '.join(said)} |"


if __name__ == "__main__":
    sys.exit(main())
