"""One run of PFLlib from a checkout outside the tree, as JSON on the last line of its output.

It imports nothing of ours and changes no algorithm of theirs. What it adds: empty modules in the place of
imports that these algorithms never call (torchvision, matplotlib, cvxpy, h5py …; without them PFLlib takes
less memory, not more), a small network for 8×8 digits because PFLlib has none of that shape, seeds
for Python, NumPy and torch, a clock around its evaluation, and no results written to disk. With ``--start``
each training pass takes the cases in the order given (the short last batch dropped, as ever), its noise is
seeded, and models, GPFL's embeddings and valve and FedCP's gate begin with the weights given.
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


TRAINING = {"train", "ptrain", "train_cs_model"}  # what PFLlib's clients call their passes


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


class Passes:
    """A site's training passes: a sampler that goes through its cases in the next order given."""

    def __init__(self, orders, noise):
        self.left = iter(zip(orders.tolist(), noise.tolist(), strict=True))
        self.count = orders.shape[1]
        self.training = False

    def __len__(self):
        return self.count

    def __iter__(self):  # called by the loader's first batch, when the loader has drawn its own seed
        import torch

        order, noise = next(self.left)
        torch.manual_seed(noise)
        return iter(order)


def give_orders(start):
    """Let the clients' training methods, and nothing else, load cases in the orders given; returns them."""
    from flcore.clients.clientbase import Client
    from torch.utils.data import DataLoader

    sites = sum(name.startswith("orders_") for name in start)
    given = [Passes(start[f"orders_{site}"], start[f"noise_{site}"]) for site in range(sites)]
    shuffled = Client.load_train_data

    def load_train_data(client, batch_size=None):
        loader = shuffled(client, batch_size)
        own = given[client.id]
        if not own.training:
            return loader
        return DataLoader(loader.dataset, loader.batch_size, sampler=own, drop_last=loader.drop_last)

    def in_order(method):
        def train(client):
            given[client.id].training = True
            method(client)
            given[client.id].training = False

        return train

    Client.load_train_data = load_train_data
    for kind in Client.__subclasses__():
        for name in TRAINING & vars(kind).keys():
            setattr(kind, name, in_order(vars(kind)[name]))
    return given


def copy_weights(start, prefix, modules):
    """Copy the arrays ``prefix`` 0, 1 … to the parameters of ``modules``, in their order."""
    import torch

    parameters = list(itertools.chain.from_iterable(module.parameters() for module in modules))
    given = sum(name.startswith(prefix) for name in start)
    if given != len(parameters):
        raise SystemExit(f"{given} arrays {prefix}… were given for {len(parameters)} of PFLlib's")
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            value = torch.from_numpy(start[f"{prefix}{number}"])
            if value.shape != parameter.shape:
                raise SystemExit(f"{prefix}{number} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(value)


def own_modules(algorithm, client):
    """The modules beside the model that a client begins with; GPFL has its embeddings twice."""
    if algorithm == "GPFL":
        return [[client.GCE, client.CoV], [client.GCE_frozen, client.CoV]]
    return [[client.model.gate.cs]] if algorithm == "FedCP" else [[]]


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


def make_server(options):
    """The server with its clients, and the passes that were given to them."""
    import torch

    torch.set_num_threads(1)
    args = argparse.Namespace(**(DEFAULTS | json.loads(options.settings)))
    args.algorithm, args.dataset, args.num_clients = options.algorithm, "bench", options.clients
    args.global_rounds, args.eval_gap = options.rounds, options.every
    random.seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002 - PFLlib uses the global one
    torch.manual_seed(options.seed)
    module, name, split = SERVERS[options.algorithm]
    server_class = getattr(importlib.import_module(f"flcore.servers.{module}"), name)
    args.model = network(options.network)
    start = dict(np.load(options.start, allow_pickle=False)) if options.start else {}
    given = give_orders(start) if start else []
    if start:
        copy_weights(start, "model_", [args.model])
    if split:
        args.head = copy.deepcopy(args.model.fc)
        args.model.fc = torch.nn.Identity()
        args.model = importlib.import_module("flcore.trainmodel.models").BaseHeadSplit(args.model, args.head)
    server = server_class(args, 0)
    if start:
        for modules in itertools.chain(*(own_modules(name, client) for client in server.clients)):
            copy_weights(start, "own_", modules)
    return server, given


def run(options):
    server, given = make_server(options)
    server.save_results = server.save_global_model = lambda: None
    clock = Clock()
    for method in ("evaluate", "evaluate_personalized"):
        clock.around(server, method)
    server.Budget = marks = Marks(clock)
    server.train()
    if any(list(passes.left) for passes in given):
        raise SystemExit("PFLlib made fewer passes than orders were given")
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
    parser.add_argument("--start", type=Path, help="npz of initial weights, orders and noise seeds")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    absent(UNUSED)
    sys.path.insert(0, str((options.pfllib / "system").resolve()))
    partition = options.partition.resolve()
    options.start = options.start and options.start.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "system").mkdir()
        options.clients = write_dataset(partition, Path(scratch) / "dataset" / "bench")
        os.chdir(Path(scratch) / "system")
        print(json.dumps(run(options)))
        os.chdir("/")


if __name__ == "__main__":
    main()
