"""``python -m tests.bench.defaults --study dermoscopy --algorithms fedavg,dbe --try learning_rate=0.0005``.

How a default does on a demo study: every ``--try`` (several NAME=VALUE pairs joined by commas; an empty one
is the study as it is) in folds of the patients outside the test parts, which no fold reads. A row is the
mean over sites of the endpoint on held-out patients, in %, mean over folds and seeds, with the standard error
over them.
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table

from fl_jobs.simulate import run_in_process
from fl_jobs.simulate.folds import fold_homes
from fl_jobs.simulate.sources import SiteFolders
from infra.demo.datasets import STUDIES, DemoStudy, hotline
from tests.bench.real_runs import ARMS, data_home
from tests.e2e.studies import run_spec, write_home

FOLDS = 4
REQUESTS = 2000  # of each hotline province


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--study", choices=tuple(STUDIES), required=True)
    parser.add_argument("--algorithms", default="fedcp,dbe,gpfl")
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="NAME=VALUE,…")
    parser.add_argument("--folds", type=int, default=1, help=f"so many of {FOLDS}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="default: the study's")
    parser.add_argument("--json", action="store_true", help="one measurement per line, nothing else")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    study = hotline(REQUESTS) if options.study == "hotline" else STUDIES[options.study]()
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="consilium-defaults-") as scratch:
        for words, algorithm, row in measure(study, options, Path(scratch)):
            found[words, algorithm].append(row)
            if options.json:
                print(json.dumps({"try": words, "algorithm": algorithm, **row}), flush=True)
    if not options.json:
        show(found, study)
    return 0


def measure(
    study: DemoStudy, options: argparse.Namespace, scratch: Path
) -> Iterator[tuple[str, str, dict[str, float]]]:
    """What each try and algorithm reaches in one fold with one seed: the mean over sites of each arm."""
    for place, site in enumerate(study.sites):
        write_home(study, place, scratch / "homes" / site.name, data_home())
    source = SiteFolders(scratch / "homes", scratch / "read", dataset=study.dataset, size=study.pixels)
    folds = fold_homes(source, study.dataset, FOLDS, scratch / "folds")
    tries, algorithms = options.tries or [""], options.algorithms.split(",")
    for homes in islice(folds, options.folds):
        for words, algorithm, seed in product(tries, algorithms, range(options.seeds)):
            tried = replace(study, settings={**study.settings, **settings_of(words)})
            spec = run_spec(tried, algorithm, seed=seed, rounds=options.rounds)
            *_, finish = run_in_process(spec, homes)
            cells = [report["cells"] for report in finish["sites"].values()]
            endpoint, arms = spec.analysis.endpoint, [arm for arm in ARMS if arm in cells[0]]
            yield words, algorithm, {arm: fmean(cell[arm][endpoint] for cell in cells) for arm in arms}


def settings_of(words: str) -> dict[str, str | int | float]:
    """Fields of the run form from ``learning_rate=0.001,arg_dim=32``; the model's begin with arg_."""
    found: dict[str, str | int | float] = {}
    for pair in filter(None, words.split(",")):
        name, equals, text = pair.partition("=")
        if not equals:
            raise SystemExit(f"“{pair}” is not NAME=VALUE, for example learning_rate=0.0005.")
        with suppress(ValueError):
            text = json.loads(text)
        found[name if name.startswith("arg_") else f"hp_{name}"] = text
    return found


def show(found: dict[tuple[str, str], list[dict[str, float]]], study: DemoStudy) -> None:
    table = Table("tried", "algorithm", "runs", *ARMS, title=study.title)
    for (words, algorithm), rows in found.items():
        table.add_row(words or "as it is", algorithm, str(len(rows)), *(_cell(rows, arm) for arm in ARMS))
    Console(width=130).print(table)


def _cell(rows: list[dict[str, float]], arm: str) -> str:
    values = [100 * row[arm] for row in rows if arm in row]
    if not values:
        return "–"
    error = f" ± {stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{error}"


if __name__ == "__main__":
    sys.exit(main())
