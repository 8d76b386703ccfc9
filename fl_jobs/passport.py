"""What a new site with few labels gets from the common model, with only the personal part fitted.

``python -m fl_jobs.passport --home HOME --spec run_spec.json --shared FILE`` prints balanced accuracy on the
site's test part against k, the number of labelled training cases, beside local-only on the same k cases. The
shared part is frozen. Scaling needs no labels and is fitted on all training inputs. The site was no part of
the run, so nobody has read its test part; it is read once for the whole table.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.data import DataPart, load_part, text_encoder
from fl_jobs.device import CPU, site_device
from fl_jobs.errors import FLJobError, SharedStateError, SpecError
from fl_jobs.evaluation import measure, predict_probabilities
from fl_jobs.messages import TensorMap
from fl_jobs.packaging.spec import MAX_SPEC_BYTES, RunSpec, parse_spec
from fl_jobs.site_session.arms import set_scaling
from fl_jobs.tensor_files import read_tensors
from fl_jobs.training import Cases, train_phase
from fl_jobs.weights import FOLDER as WEIGHTS_FOLDER

COUNTS, REPEATS = (0, 2, 5, 10, 20, 50, 100), 5


@dataclass(frozen=True)
class Point:
    """``k`` labelled cases: mean and standard deviation over ``repeats`` draws of balanced accuracy.

    ``personal`` has the shared part frozen; ``local`` learned all by itself; None where k is 0.
    """

    k: int
    repeats: int
    personal: float
    personal_sd: float
    local: float | None
    local_sd: float | None


def few_label_curve(
    spec: RunSpec,
    shared: TensorMap,
    train: DataPart,
    test: DataPart,
    *,
    counts: Sequence[int] = COUNTS,
    repeats: int = REPEATS,
    seed: int = 0,
    weights: Path | None = None,
    device: torch.device = CPU,
) -> list[Point]:
    """One point for each of ``counts`` that the training part can give.

    ``shared`` are the tensors of the run's last arm by name, as its version holds them. Each draw takes the
    labels in turn; both models make as many passes as the run did. ``weights``: the site's folder of trained
    weights, for a run that names some. Raises SpecError, SharedStateError, ModelFileError.
    """
    if not shared:
        raise SpecError("This model shares nothing; a new site has nothing to begin with.")
    _check_shared(spec, shared)
    arm, found = spec.arms()[-1], []
    for k in sorted({count for count in counts if 0 <= count <= len(train.y)}):
        draws = range(repeats if k else 1)
        scores = [
            _scores(
                tuple(build_algorithm(spec, name, weights).to(device) for name in (arm, "local")),
                spec, shared, train, test, _draw(train.y, k, seed + draw), seed + draw,
            )
            for draw in draws
        ]  # fmt: skip
        personal, local = (np.array(column, dtype=np.float64) for column in zip(*scores, strict=True))
        own = (float(local.mean()), float(local.std())) if k else (None, None)
        found.append(Point(k, len(draws), float(personal.mean()), float(personal.std()), *own))
    return found


def _check_shared(spec: RunSpec, shared: TensorMap) -> None:
    model = build_algorithm(spec, spec.arms()[-1], shapes_only=True)
    expected = {name: tuple(value.shape) for name, value in model.shared_state().items()}
    if {name: value.shape for name, value in shared.items()} != expected:
        raise SharedStateError(
            "The shared part does not belong to this run specification. Take both from one version."
        )
    if not all(np.isfinite(value).all() for value in shared.values()):
        raise SharedStateError("The shared part holds a number that is not finite. Take another version.")


def _scores(
    models: Sequence[PersonalAlgorithm],
    spec: RunSpec,
    shared: TensorMap,
    train: DataPart,
    test: DataPart,
    chosen: NDArray[np.int64],
    seed: int,
) -> tuple[float, float]:
    """What the common model with its personal part, and local-only, reach with the ``chosen`` cases."""
    cases = Cases(torch.from_numpy(train.x[chosen]), torch.from_numpy(train.y[chosen]))
    personal, local = models
    personal.receive(TRAIN, {name: torch.tensor(value) for name, value in shared.items()})
    common = personal.shared_state().keys()
    for name, parameter in personal.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name not in common)
    set_scaling(personal.scaler, spec, spec.arms()[-1], torch.from_numpy(train.x))
    set_scaling(local.scaler, spec, "local", torch.from_numpy(train.x))
    return _fitted(spec, personal, test, cases, seed), _fitted(spec, local, test, cases, seed)


def _fitted(spec: RunSpec, model: PersonalAlgorithm, test: DataPart, cases: Cases, seed: int) -> float:
    before = {name: value.clone() for name, value in model.shared_state().items()}
    for number in range(spec.rounds) if len(cases.y) else ():
        words, progress = ("passport", number + 1), number / spec.rounds
        train_phase(model, TRAIN, cases, seed=seed, words=words, progress=progress)
        # what is shared may also move without a gradient: running statistics, a mixture kept in the head
        model.load_state_dict(before, strict=False)
    reached = measure(predict_probabilities(model, torch.from_numpy(test.x)), test.y)
    return float(reached["balanced_accuracy"] or 0.0)


def _draw(y_N: NDArray[np.int64], k: int, seed: int) -> NDArray[np.int64]:
    """``k`` case numbers, the labels taken in turn so that few cases already show all of them."""
    generator = np.random.default_rng(seed)
    pools = [list(generator.permutation(np.flatnonzero(y_N == label))) for label in np.unique(y_N)]
    generator.shuffle(pools)
    taken: list[int] = []
    while len(taken) < k:
        taken += [int(pool.pop()) for pool in pools if pool][: k - len(taken)]
    return np.array(taken, dtype=np.int64)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fl_jobs.passport", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the site's folder with its registered data")
    parser.add_argument("--spec", type=Path, required=True, help="run_spec.json of the run")
    parser.add_argument("--shared", type=Path, required=True, help="shared part of the version (safetensors)")
    parser.add_argument(
        "--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of labelled cases"
    )
    parser.add_argument("--repeats", type=int, default=REPEATS, help="draws for each number")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        points = _measure(options)
    except FLJobError as error:
        Console(stderr=True, highlight=False, markup=False, emoji=False).print(error, soft_wrap=True)
        return 2
    table = Table("labelled cases", "personal (shared part frozen)", "local only")
    for point in points:
        local = "–" if point.local is None else f"{point.local:.3f} ± {point.local_sd:.3f}"
        table.add_row(str(point.k), f"{point.personal:.3f} ± {point.personal_sd:.3f}", local)
    Console(highlight=False).print(table)
    return 0


def _measure(options: argparse.Namespace) -> list[Point]:
    home: Path = options.home
    if options.repeats < 1 or min(options.counts) < 0:
        raise SpecError("Draw at least once for each number, and choose numbers of cases from 0 up.")
    spec, weights = _read_spec(options.spec), home / WEIGHTS_FOLDER
    folder, encode = home / "data" / spec.study.dataset, text_encoder(spec, weights)
    train, test = (
        load_part(folder, home / "registered", name, spec.study.task, encode) for name in (TRAIN, "test")
    )
    if min(options.counts) > len(train.y):
        raise SpecError(f"The site has {len(train.y)} labelled cases to train with. Choose smaller --counts.")
    return few_label_curve(
        spec, read_tensors(options.shared), train, test, counts=options.counts, repeats=options.repeats,
        weights=weights, device=site_device(),
    )  # fmt: skip


def _read_spec(path: Path) -> RunSpec:
    try:
        with path.open("rb") as file:
            return parse_spec(file.read(MAX_SPEC_BYTES + 1))
    except OSError as error:
        raise SpecError(f"{path.name} cannot be read. Name the run_spec.json of a run.") from error


if __name__ == "__main__":
    sys.exit(main())
