"""One cell of the anchor table: our simulator in a process of its own, and the settings of both sides.

``python -m tests.bench.anchor_cells CELL`` (JSON) plays one run of ours and prints its figures as JSON.
"""

import json
import resource
import statistics
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

DIGITS = {"filters": 16, "kernel": 3, "padding": 1, "feature_dim": 64}  # 13,706 numbers
MNIST = {"filters": 32, "kernel": 5, "padding": 0, "feature_dim": 512}  # 582,026 numbers
LOOP = {"optimiser": "sgd", "learning_rate": 0.05, "batch_size": 10, "local_epochs": 1}
ARM = {"local_only": "local", "fedavg": "global"}


@dataclass(frozen=True)
class Method:
    """A method at one setting: our name and settings, PFLlib's, and its tag in the stored results.

    ``seeds`` multiplies ``--seeds``. It is 2 for FedCP with λ 5, DBE with κ 50 and GPFL: in pilots of five
    seeds their pairs differed by 1.2, 0.8 and 1.5 points (standard deviation), which asks for ten.
    """

    tag: str
    ours: str
    theirs: str
    our_settings: dict = field(default_factory=dict)
    their_settings: dict = field(default_factory=dict)
    seeds: int = 1


METHODS = (
    Method("FedAvg", "fedavg", "FedAvg"),
    Method("Local", "local_only", "Local"),
    Method("FedProx_mu.001", "fedprox", "FedProx", {"prox_pull": 0.001}, {"mu": 0.001}),
    Method("FedPer", "fedper", "FedPer"),
    Method("FedRep", "fedrep", "FedRep"),
    Method("FedDBE_mo1_klw1", "dbe", "FedDBE", {"kappa": 1.0}, {"momentum": 1.0, "kl_weight": 1.0}),
    Method(
        "FedDBE_mo1_klw50", "dbe", "FedDBE",
        {"kappa": 50.0}, {"momentum": 1.0, "kl_weight": 50.0}, seeds=2,
    ),
    Method("FedALA", "fedala", "FedALA"),
    Method(
        "GPFL_lam.01_mu.1", "gpfl", "GPFL",
        {"embedding_pull": 0.01, "embedding_decay": 0.1}, {"lamda": 0.01, "mu": 0.1}, seeds=2,
    ),
    Method("FedCP_lam5", "fedcp", "FedCP", {"mmd_weight": 5.0}, {"lamda": 5.0}, seeds=2),
    Method("FedCP_lam.5", "fedcp", "FedCP", {"mmd_weight": 0.5}, {"lamda": 0.5}),
    Method("Ditto_mu.1", "ditto", "Ditto", {"own_pull": 0.1}, {"mu": 0.1}),
)  # fmt: skip


def network_of(partition):
    return "mnist" if partition.name.startswith("mnist") else "digits"


def play(cell):
    """Play ``cell``: partition, algorithm, settings, rounds, seed, validation, stacked, start (a path).

    "authors_way": as the authors' code does where ours deviates on purpose.
    """
    from fl_jobs.packaging.spec import ModelSpec
    from fl_jobs.simulate import Options, PartitionFolder, Simulation, make_spec
    from tests.bench.anchor_start import write_start
    from tests.bench.kept_rows import loaded_code

    if cell["authors_way"]:
        import_module("tests.bench.authors_ways").take(cell["algorithm"])
    partition = Path(cell["partition"])
    source = PartitionFolder(partition, validation=cell["validation"], seed=cell["seed"])
    arguments = MNIST if network_of(partition) == "mnist" else DIGITS
    spec = make_spec(
        source, cell["algorithm"], ModelSpec(name="image_conv2", arguments=arguments),
        rounds=cell["rounds"], seed=cell["seed"], hyper_parameters=LOOP | cell["settings"],
        only=(ARM.get(cell["algorithm"], "personal"),),
    )  # fmt: skip
    if cell.get("start"):
        write_start(spec, source, cell["start"])
    with tempfile.TemporaryDirectory() as scratch:
        simulation = Simulation(spec, source, Path(scratch), Options(stacked=cell["stacked"]))
        rows = list(simulation.rows())
    return {
        "curve": [row.test_accuracy for row in rows],
        "validation_curve": [row.validation_accuracy for row in rows],
        "cpu_s_per_round": statistics.median(row.cpu_seconds for row in rows[1:]),
        "cpu_s_per_evaluation": statistics.median(row.evaluation_cpu_seconds for row in rows),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "stacked": any(simulation.stacked.values()),
        "code": loaded_code(declared_of(spec)),
    }


def declared_of(spec):
    """What the run took from the catalog's list of algorithms."""
    from fl_jobs.catalog import ALGORITHMS, validate_hyper_parameters

    entry, given = ALGORITHMS[spec.algorithm], spec.hyper_parameters
    settings = validate_hyper_parameters(spec.algorithm, given, spec.study.task.kind, spec.model.name)
    return {"settings": settings, "path": entry.path, "fold": entry.fold}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(play(json.loads(sys.argv[1]))))
