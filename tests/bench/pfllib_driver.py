"""One run of PFLlib from a checkout outside the tree, as JSON on the last line of its output.

It imports nothing of ours and changes no algorithm of theirs. What it adds: empty modules in the place of
imports that these algorithms never call (torchvision, matplotlib, cvxpy, h5py …; without them PFLlib takes
less memory, not more), a small network for 8×8 digits because PFLlib has none of that shape, seeds
for Python, NumPy and torch, a clock around its evaluation, and no results written to disk.
"""

import argparse
import copy
import importlib
import itertools
import json
import os
import random  # noqa: TID251 - PFLlib draws from it, so it is seeded
import resource
import statistics
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

UNUSED = ("torchvision", "matplotlib", "cvxpy", "h5py", "PIL", "calmsize", "ujson")
SERVERS = {  # name -> module, class, does its main.py split the model into base and head?
    "FedAvg": ("serveravg", "FedAvg", True),
    "FedProx": ("serverprox", "FedProx", False),
    "Local": ("serverlocal", "Local", False),
    "FedPer": ("serverper", "FedPer", True),
    "FedRep": ("serverrep", "FedRep", True),
    "Ditto": ("serverditto", "Ditto", False),
    "FedALA": ("serverala", "FedALA", False),
    "FedCP": ("servercp", "FedCP", True),
    "GPFL": ("servergpfl", "GPFL", True),
    "FedDBE": ("serverdbe", "FedDBE", True),
}
DEFAULTS = {
    "device": "cpu", "num_classes": 10, "batch_size": 10, "local_learning_rate": 0.05, "local_epochs": 1,
    "join_ratio": 1.0, "random_join_ratio": False, "few_shot": 0, "time_select": False, "goal": "bench",
    "time_threthold": 1e9, "save_folder_name": "items", "top_cnt": 100, "auto_break": False,
    "client_drop_rate": 0.0, "train_slow_rate": 0.0, "send_slow_rate": 0.0, "dlg_eval": False, "dlg_gap": 100,
    "batch_num_per_client": 2, "num_new_clients": 0, "fine_tuning_epoch_new": 0,
    "learning_rate_decay": False, "learning_rate_decay_gamma": 0.99, "beta": 0.0, "lamda": 1.0, "mu": 0.0,
    "K": 5, "plocal_epochs": 1, "tau": 1.0, "eta": 1.0, "rand_percent": 80, "layer_idx": 2, "momentum": 0.1,
    "kl_weight": 0.0, "first_stage_bound": 0,
}  # fmt: skip


class Absent(types.ModuleType):
    """A module that is imported and never used."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


def absent(names):
    for name in names:
        module = Absent(name)
        module.__path__ = []
        sys.modules[name] = module
    for name in ("torchvision.transforms", "torchvision.datasets", "matplotlib.pyplot", "PIL.Image"):
        sys.modules[name] = Absent(name)


def write_dataset(partition, folder):
    """The partition in PFLlib's own files (compressed npz with one pickled dict, as it writes them)."""
    clients = sorted(partition.glob("client_*.npz"))
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
    for number, path in enumerate(clients):
        with np.load(path, allow_pickle=False) as arrays:
            for part in ("train", "test"):
                held = {"x": arrays[f"x_{part}"], "y": arrays[f"y_{part}"]}
                np.savez_compressed(folder / part / f"{number}.npz", data=held)
    return len(clients)


def network(name):
    from torch import nn

    if name == "mnist":
        return importlib.import_module("flcore.trainmodel.models").FedAvgCNN(1, 10, 1024)

    class DigitsCNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(128, 64), nn.ReLU(),
            )  # fmt: skip
            self.fc = nn.Linear(64, 10)

        def forward(self, x):
            return self.fc(self.body(x))

    return DigitsCNN()


class Marks(list):
    """Stands for the list that every server appends to at a round's end; notes the CPU time then."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.at = clock, [time.process_time()]

    def append(self, value):
        super().append(value)
        self.at.append(time.process_time() - self.clock.evaluating)


class Clock:
    """CPU seconds spent in evaluations."""

    def __init__(self):
        self.evaluating = 0.0
        self.evaluations = 0

    def around(self, server, name):
        inner = getattr(server, name, None)
        if inner is None:
            return

        def timed(*args, **kwargs):
            began = time.process_time()
            result = inner(*args, **kwargs)
            self.evaluating += time.process_time() - began
            self.evaluations += 1
            return result

        setattr(server, name, timed)


def run(options):
    import torch

    torch.set_num_threads(1)
    args = argparse.Namespace(**(DEFAULTS | json.loads(options.settings)))
    args.algorithm, args.dataset, args.num_clients = options.algorithm, "bench", options.clients
    args.global_rounds, args.eval_gap = options.rounds, options.every
    random.seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002 - PFLlib uses the global one
    torch.manual_seed(options.seed)
    module, name, split = SERVERS[options.algorithm]
    args.model = network(options.network)
    if options.weights:
        with np.load(options.weights, allow_pickle=False) as arrays, torch.no_grad():
            for number, parameter in enumerate(args.model.parameters()):
                parameter.copy_(torch.from_numpy(arrays[f"arr_{number}"]))
    if split:
        args.head = copy.deepcopy(args.model.fc)
        args.model.fc = torch.nn.Identity()
        args.model = importlib.import_module("flcore.trainmodel.models").BaseHeadSplit(args.model, args.head)
    server = getattr(importlib.import_module(f"flcore.servers.{module}"), name)(args, 0)
    server.save_results = server.save_global_model = lambda: None
    clock = Clock()
    for method in ("evaluate", "evaluate_personalized"):
        clock.around(server, method)
    server.Budget = marks = Marks(clock)
    server.train()
    spent = [after - before for before, after in itertools.pairwise(marks.at)]
    curve = server.rs_test_acc[1::2] if options.algorithm == "Ditto" else server.rs_test_acc
    return {
        "curve": [float(value) for value in curve],
        "cpu_s_per_round": statistics.median(spent),
        "cpu_s_per_evaluation": clock.evaluating / max(clock.evaluations, 1),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pfllib", type=Path, required=True)
    parser.add_argument("--partition", type=Path, required=True)
    parser.add_argument("--algorithm", choices=SERVERS, required=True)
    parser.add_argument("--network", choices=("digits", "mnist"), required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--weights", type=Path, help="npz of initial weights, in the order of the layers")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    absent(UNUSED)
    sys.path.insert(0, str((options.pfllib / "system").resolve()))
    partition = options.partition.resolve()
    options.weights = options.weights and options.weights.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "system").mkdir()
        options.clients = write_dataset(partition, Path(scratch) / "dataset" / "bench")
        os.chdir(Path(scratch) / "system")
        print(json.dumps(run(options)))
        os.chdir("/")


if __name__ == "__main__":
    main()
