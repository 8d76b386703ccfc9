"""``python -m fl_jobs.benefit FILE … [--json]``: judge runs of several seeds as one analysis.

FILE is a ``test_answers.json`` in a site's run folder. One site's files give that site's verdicts; files of
several sites also say what holds over all of them. Nothing is read but these files.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from fl_jobs.benefit.difference import Difference
from fl_jobs.benefit.evidence import Evidence, judge_seeds, read_evidence
from fl_jobs.benefit.federation import FederationVerdict, judge_federation
from fl_jobs.errors import FLJobError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fl_jobs.benefit", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args(arguments)
    try:
        runs = [read_evidence(path) for path in options.files]
        found = judge_seeds(runs)
    except FLJobError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    spec = runs[0].spec
    candidate = spec.candidate()
    cells = {site: arms[candidate] for site, arms in found.items() if candidate in arms}
    verdict = judge_federation(cells, error=spec.analysis.error)
    sys.stdout.write(_as_json(found, verdict) if options.json else _as_text(runs, found, verdict))
    return 0


def _as_json(found: dict[str, dict[str, Difference]], verdict: FederationVerdict) -> str:
    sites = {site: {arm: cell.as_json() for arm, cell in arms.items()} for site, arms in found.items()}
    return json.dumps({"sites": sites, "federation": asdict(verdict)}, indent=1, ensure_ascii=False) + "\n"


def _as_text(
    runs: list[Evidence], found: dict[str, dict[str, Difference]], verdict: FederationVerdict
) -> str:
    spec, seeds = runs[0].spec, Counter(run.site for run in runs)
    margin = 100 * spec.analysis.margin
    lines = [f"{spec.study.slug}: {spec.analysis.endpoint} minus local-only; candidate: {spec.candidate()}"]
    for site, arms in found.items():
        groups = ", ".join(f"{n} {label}" for label, n in next(iter(arms.values())).groups.items())
        lines.append(f"{site} ({seeds[site]} seeds; test groups: {groups})")
        lines += [f"  {arm:<9}{_cell(cell)}" for arm, cell in arms.items()]
    if len(found) > 1:
        lines.append(f"No site harmed by more than {margin:g} points: {verdict.no_site_harmed}.")
        lines.append(
            f"Helped (Holm over {len(verdict.adjusted)} sites): {', '.join(verdict.helped) or 'none'}."
        )
        lines.append(f"Sites of which nothing can be said: {verdict.unknown}.")
    return "\n".join(lines) + "\n"


def _cell(cell: Difference) -> str:
    return (
        f"{100 * cell.value:+6.1f} points ({100 * cell.low:+.1f} … {100 * cell.high:+.1f}), "
        f"lower bound {100 * (cell.lower or 0):+.1f}, p(gain) {cell.p_gain:.4f}, "
        f"p(loss) {cell.p_harm:.4f}: {cell.verdict}"
    )


if __name__ == "__main__":
    sys.exit(main())
