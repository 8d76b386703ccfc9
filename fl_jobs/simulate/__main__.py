"""``python -m fl_jobs.simulate FOLDER``: play a run over many sites.

Writes ``rounds.csv`` and ``rounds.svg``; with ``--choose K`` instead ``choice.json``: the arm each site
should use by K folds of its patients (or images) outside its test part, which no fold reads.

FOLDER is a partition (meta.json and client_NN.npz) or holds one folder per site with
data/<dataset>/manifest.json. What cannot be used is said in one sentence, with exit status 2.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fl_jobs.errors import FLJobError, SpecError
from fl_jobs.packaging.spec import Arm, HyperValue, ModelSpec
from fl_jobs.simulate.folds import choose_by_simulation
from fl_jobs.simulate.report import choice_table, write_csv, write_plot
from fl_jobs.simulate.simulation import Options, Row, SimulatedSpec, Simulation, as_run, make_spec
from fl_jobs.simulate.sources import SiteFolders, Source, open_source

MODELS = {"tabular": "tabular_mlp", "image": "image_cnn", "text": "text_hash"}
ARMS: tuple[Arm, ...] = ("local", "global", "personal")
NOT_WITH_FOLDS = ("arms", "fraction", "validation", "every", "stacked", "memory")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)  # names may hold brackets
    try:
        _check(options)
        with tempfile.TemporaryDirectory(prefix="simulate-") as scratch:
            act = _choose if options.choose else _simulate
            act(options, Path(scratch), console)
    except ValidationError as error:
        first = error.errors()[0]
        return _refuse(console, f"{'.'.join(map(str, first['loc']))}: {first['msg']}. Correct it.")
    except FLJobError as error:
        return _refuse(console, str(error))
    except OSError as error:
        return _refuse(console, f"{error.filename or error}: {error.strerror}. Choose another place.")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse before hours of work what could only fail after them. Raises SpecError."""
    if options.seeds < 1:
        raise SpecError(f"--seeds is {options.seeds}; choose at least one.")
    given = [name for name in NOT_WITH_FOLDS if getattr(options, name) != _parser().get_default(name)]
    if options.choose and given:
        raise SpecError(
            f"With --choose every site trains every arm in every round of every fold. Leave --{given[0]} out."
        )
    if options.choose and options.algorithm == "local_only":
        raise SpecError("A run of local-only leaves nothing to choose. Choose another --algorithm.")
    nearest: Path = options.out
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise SpecError(f"{nearest} is not a folder that can be written to. Choose another place with --out.")


def _simulate(options: argparse.Namespace, scratch: Path, console: Console) -> None:
    rows = _play(options, scratch, console)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "rounds.csv", rows)
    write_plot(options.out / "rounds.svg", rows, f"{options.algorithm}, {options.folder.name}")
    _summarise(console, rows)


def _choose(options: argparse.Namespace, scratch: Path, console: Console) -> None:
    source = open_source(options.folder, scratch, dataset=options.dataset, size=options.size)
    if not isinstance(source, SiteFolders):
        raise SpecError(
            "A partition has no patients to make folds of. Name a folder with one folder per site."
        )
    seeds = range(options.seed, options.seed + options.seeds)
    specs = [as_run(_spec(options, source, seed)) for seed in seeds]
    with _progress(console) as progress:
        task = progress.add_task("folds", total=options.choose * options.seeds)
        found = choose_by_simulation(
            source, specs, options.choose, scratch, on_run=lambda: progress.advance(task)
        )
    options.out.mkdir(parents=True, exist_ok=True)
    choices = {site: choice.as_json() for site, choice in found.items()}
    (options.out / "choice.json").write_text(json.dumps(choices, indent=1) + "\n", encoding="utf-8")
    console.print(choice_table(found, specs[0].analysis))


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _play(options: argparse.Namespace, scratch: Path, console: Console) -> list[Row]:
    source = open_source(
        options.folder, scratch, dataset=options.dataset, size=options.size,
        validation=options.validation, seed=options.seed,
    )  # fmt: skip
    played = Options(
        fraction=options.fraction, every=options.every, stacked=options.stacked,
        memory_bytes=options.memory * 2**20,
    )  # fmt: skip
    specs = [_spec(options, source, options.seed + place) for place in range(options.seeds)]
    rows: list[Row] = []
    with _progress(console) as progress:
        task = progress.add_task("rounds", total=options.rounds * options.seeds)
        for spec in specs:
            simulation = Simulation(spec, source, scratch / str(spec.seed), played)
            for row in simulation.rows(on_round=lambda _number: progress.advance(task)):
                rows.append(row)
                if row.test_accuracy is not None:
                    progress.update(task, description=f"seed {spec.seed}, {row.arm}: {row.test_accuracy:.1%}")
    return rows


def _spec(options: argparse.Namespace, source: Source, seed: int) -> SimulatedSpec:
    model = ModelSpec(name=options.model or MODELS[source.task.kind], arguments=_values(options.model_set))
    return make_spec(
        source, options.algorithm, model, rounds=options.rounds, seed=seed,
        hyper_parameters=_values(options.set), only=tuple(options.arms),
    )  # fmt: skip


def _values(pairs: list[str]) -> dict[str, HyperValue]:
    """``name=value`` pairs; a value is JSON (true, 5, 0.1) or else a word. Raises SpecError."""
    values: dict[str, HyperValue] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SpecError(f"“{pair}” is not name=value, for example learning_rate=0.05.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        values[name] = value if isinstance(value, bool | int | float) else text
    return values


def _summarise(console: Console, rows: list[Row]) -> None:
    last = max(row.round for row in rows)
    for row in rows:
        if row.round == last:
            parts = {"validation": row.validation_accuracy, "test": row.test_accuracy}
            text = ", ".join(f"{part} {value:.1%}" for part, value in parts.items() if value is not None)
            console.print(f"seed {row.seed}, {row.arm}, round {last}: {text}")


def _refuse(console: Console, sentence: str) -> int:
    console.print(sentence, soft_wrap=True)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fl_jobs.simulate", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path)
    add("--algorithm", default="dbe", help="a name of the catalog (default: dbe)")
    add("--model", default="", help="a name of the catalog; default: the small one for the kind of data")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyper-parameter")
    add("--model-set", action="append", default=[], metavar="NAME=VALUE", help="an argument of the model")
    add("--rounds", type=int, default=20)
    add("--fraction", type=float, default=1.0, help="share of the sites that train in a round")
    add("--seed", type=int, default=0)
    add("--seeds", type=int, default=1, help="so many runs, with seeds one after another")
    add("--arms", nargs="+", choices=ARMS, default=[], help="default: all the algorithm has")
    add("--validation", type=float, default=0.2, help="share of a partition's training cases held out")
    add("--every", type=int, default=1, help="measure all sites after every so many rounds")
    add("--stacked", choices=("auto", "on", "off"), default="auto", help="train small sites in one pass")
    add("--choose", type=int, default=0, metavar="K", help="choose each site's arm by so many folds")
    add("--memory", type=int, default=1024, help="MB of personal parts, and of data, held in memory")
    add("--dataset", default="", help="which data set, if sites have several")
    add("--size", type=int, default=64, help="pixels of an image's side (folders of sites)")
    add("--out", type=Path, default=Path("simulation"), help="folder of rounds.csv and rounds.svg")
    return parser


if __name__ == "__main__":
    sys.exit(main())
