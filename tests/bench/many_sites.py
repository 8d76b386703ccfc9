"""How many sites one machine plays: 500 with a MNIST-size network, and small ones trained in one pass.

``python -m tests.bench.many_sites [--json] [--small]``

The 500 sites are drawn with a seed, with replacement, from the pooled training cases of the mnist3k partition
(3,000 images; no larger set is at hand): their sizes are those of the partition's sites. That is enough for
memory and seconds and says nothing about accuracy. Without that partition the images are noise of the same
shape. Stacked against one after another: the same sites, once each way in turns, the median of the ratios of
CPU seconds, both in one thread: the second core is left to others.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.packaging.spec import ModelSpec
from fl_jobs.simulate import Options, PartitionFolder, Simulation, make_spec
from fl_jobs.simulate.memory import keep_freed_memory
from fl_jobs.simulate.stacked import SiteWork, train_stacked
from fl_jobs.training import Cases, train_phase
from tests.bench.anchor_cells import DIGITS, LOOP, MNIST
from tests.bench.anchors import data_folder

BOUNDS = {"rss_mb": 5 * 1024, "stacked_mlp": 5.0, "stacked_digits": 3.0}
SITES, FRACTION, SMALL_SITES = 500, 0.1, 50


def write_sites(folder, count):
    """``count`` sites drawn from mnist3k, in the same kind of files; returns where the images are from."""
    pool = data_folder() / "mnist3k_a01_c10"
    generator = np.random.default_rng(4)
    if pool.is_dir():
        files = [np.load(path, allow_pickle=False) for path in sorted(pool.glob("client_*.npz"))]
        x, y = (np.concatenate([file[f"{name}_train"] for file in files]) for name in "xy")
        sizes = [len(file["y_train"]) for file in files]
    else:
        x = generator.normal(size=(600, 1, 28, 28)).astype(np.float32)
        y, sizes = generator.integers(0, 10, 600), [35, 104, 142, 223, 233, 266, 267, 269, 335, 373]
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"name": "resampled", "seed": 4, "num_clients": count}))
    for number in range(count):
        size = sizes[number % len(sizes)]
        train, test = (generator.integers(0, len(y), n) for n in (size, size // 3))
        np.savez(folder / f"client_{number:03d}.npz", x_train=x[train], y_train=y[train],
                 x_test=x[test], y_test=y[test])  # fmt: skip
    return "resampled from mnist3k" if pool.is_dir() else "noise"


def many_sites(*, sites, rounds):
    """500 sites, a tenth of them a round, FedPer: every site has a head of its own on top of its data."""
    with tempfile.TemporaryDirectory() as scratch:
        images = write_sites(Path(scratch) / "sites", sites)
        source = PartitionFolder(Path(scratch) / "sites")
        spec = make_spec(
            source, "fedper", ModelSpec(name="image_conv2", arguments=MNIST), rounds=rounds,
            hyper_parameters=LOOP,
        )  # fmt: skip
        options = Options(fraction=FRACTION, every=rounds)
        simulation = Simulation(spec, source, Path(scratch) / "run", options)
        began = time.perf_counter()
        rows = list(simulation.rows(on_round=lambda number: print(f"round {number}", file=sys.stderr)))
        seconds = time.perf_counter() - began
        on_disk = simulation.session.arena.on_disk
    last = rows[-1]
    return {
        "images": images, "sites": sites, "sites_per_round": round(sites * FRACTION), "arms": 3,
        "seconds_per_round": last.seconds, "cpu_s_per_round": last.cpu_seconds,
        "evaluation_cpu_s": last.evaluation_cpu_seconds, "seconds_all": seconds, "parts_on_disk": on_disk,
        "stacked": {arm: bool(value) for arm, value in simulation.stacked.items()},
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def stacked_speed_ups(*, turns):
    """One after another ÷ stacked, in CPU seconds of one thread, for 50 small sites."""
    kinds = {
        "stacked_mlp": (ModelSpec(name="tabular_mlp"), (13,), 16),
        "stacked_digits": (ModelSpec(name="image_conv2", arguments=DIGITS), (1, 8, 8), 10),
        "stacked_mnist": (ModelSpec(name="image_conv2", arguments=MNIST), (1, 28, 28), 10),
    }
    return {
        name: speed_up(*kind, turns=turns if name != "stacked_mnist" else 1) for name, kind in kinds.items()
    }


def speed_up(model, shape, batch, *, turns, cases=60):
    generator = torch.Generator().manual_seed(2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "meta.json").write_text("{}")
        x, y = np.zeros((10, *shape), dtype=np.float32), np.arange(10)
        np.savez(folder / "client_0.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        source = PartitionFolder(folder)
        settings = LOOP | {"batch_size": batch}
        spec = make_spec(source, "fedavg", model, rounds=1, hyper_parameters=settings, only=("global",))
    algorithm = build_algorithm(spec, "global")
    state = {name: value.clone() for name, value in algorithm.state_dict().items()}
    works = [
        SiteWork(
            {name: value.clone() for name, value in state.items()},
            Cases(torch.randn((cases, *shape), generator=generator),
                  torch.randint(0, 10, (cases,), generator=generator)),
            (f"site{number}", "train", 1),
        )
        for number in range(SMALL_SITES)
    ]  # fmt: skip
    ratios = []
    for _ in range(turns + 1):
        began = time.process_time()
        train_stacked("fedavg", algorithm, works, seed=0)
        middle = time.process_time()
        for work in works:
            algorithm.load_state_dict(work.state)
            train_phase(algorithm, "train", work.cases, seed=0, words=work.words)
        ratios.append((time.process_time() - middle) / (middle - began))
    return statistics.median(ratios[1:])  # the first turn loads code


def measure(*, small):
    torch.set_num_threads(1)
    keep_freed_memory()
    figures = many_sites(sites=40 if small else SITES, rounds=2 if small else 5)
    return figures | stacked_speed_ups(turns=3 if small else 7)


def verdicts(figures):
    """(what, figure, bound, passed) for each bound."""
    rss = figures["rss_mb"]
    yield f"{figures['sites']} sites, peak memory", f"{rss:.0f} MB", "≤ 5 GB", rss <= BOUNDS["rss_mb"]
    for name, what in (("stacked_mlp", "table MLP"), ("stacked_digits", "digits CNN")):
        claim = f"{SMALL_SITES} sites stacked, {what}"
        yield claim, f"{figures[name]:.1f}×", f"≥ {BOUNDS[name]:.0f}×", figures[name] >= BOUNDS[name]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true", help="40 sites, 2 rounds")
    options = parser.parse_args(arguments)
    figures = measure(small=options.small)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<20} {value}")
        for what, figure, bound, passed in verdicts(figures):
            print(f"{'PASS' if passed else 'FAIL'}  {what}: {figure} (bound: {bound})")
    return 0 if all(passed for *_, passed in verdicts(figures)) else 1


if __name__ == "__main__":
    sys.exit(main())
