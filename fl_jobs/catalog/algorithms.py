"""The algorithms that can be run, with typed hyper-parameters."""

from dataclasses import dataclass
from typing import Literal

from fl_jobs.catalog.settings import Choice, HyperParameter, Setting

KINDS = ("tabular", "image", "text")


@dataclass(frozen=True)
class Algorithm:
    """How sites learn together.

    ``fold`` is the torch-free server step, as ``module:function``. ``needs_masking``: parts of a site's
    personal model enter the sums (FedCP's heads), and whoever sees one site's update could recover them.
    ``needs_updates``: the server step needs each site's own update, which masks hide. ``dp``: the unit
    differential privacy can be promised for with this method's loss.
    """

    name: str
    title: str
    path: str
    summary: str
    hyper_parameters: tuple[Setting, ...]
    fold: str = "fl_jobs.aggregation:fold_mean"
    kinds: tuple[str, ...] = KINDS
    needs_masking: bool = False
    needs_updates: bool = False
    dp: Literal["record", "site", "none"] = "site"


LOOP: tuple[Setting, ...] = (
    HyperParameter(
        "learning_rate", "Learning rate", float, 0.003, 0.00001, 1.0,
        "Step size of the optimiser in every arm.", {"tabular": 0.005, "image": 0.002, "text": 0.01},
    ),
    HyperParameter(
        "batch_size", "Batch size", int, 32, 1, 1024,
        "Cases per step.", {"tabular": 16, "image": 32, "text": 64},
    ),
    HyperParameter(
        "local_epochs", "Passes per round", int, 1, 1, 20,
        "How often a site goes through its training cases in one round, in every arm.",
        {"tabular": 2, "image": 1, "text": 1},
    ),
    Choice(
        "optimiser", "Optimiser", {"adam": "Adam", "sgd": "SGD"}, "adam",
        "Adam suits small data; SGD is what the papers use, with a learning rate ten times as large.",
    ),
    HyperParameter(
        "weight_decay", "Weight decay", float, 0.0, 0.0, 1.0,
        "Pull of all trained weights to zero, per step and unit of learning rate.",
    ),
    HyperParameter(
        "clip_norm", "Gradient limit", float, 0.0, 0.0, 1000.0,
        "Longest gradient of one step; 0 sets no limit.",
    ),
    Choice(
        "schedule", "Schedule", {"constant": "Constant", "cosine": "Cosine over the rounds"}, "constant",
        "How the learning rate goes on from round to round.",
    ),
    HyperParameter(
        "patience", "Patience", int, 0, 0, 1000,
        "Training ends when no arm got better on validation for so many rounds; 0 trains all rounds.",
    ),
    Choice(
        "class_weights", "Class weights", {"none": "None", "balanced": "Balanced at the site"}, "none",
        "Balanced: a rare label of the site weighs as much as a frequent one.",
    ),
    Choice(
        "augmentation", "Augmentation",
        {"mirror": "Mirrored", "none": "None", "strong": "Mirrored, turned, brightened"}, "mirror",
        "Random changes of training images; tables and texts stay as they are.",
    ),
)  # fmt: skip
KAPPA = HyperParameter(
    "kappa", "Mean regularisation", float, 1.0, 0.0, 1000.0,
    "How strongly a site's mean feature is drawn to the common one. 0 leaves only the personal offset.",
)  # fmt: skip
OFFSET = HyperParameter(
    "offset_rate", "Offset rate", float, 1.0, 0.0, 100.0,
    "Learning rate of the personal offset, as a multiple of the learning rate. 0 makes this FedAvg "
    "with mean regularisation.",
)  # fmt: skip

_ENTRIES = (
    Algorithm(
        "dbe", "FedAvg + DBE (personal)", "fl_jobs.algorithms.dbe:DBE",
        "The sites share one model; each keeps an offset of its own in feature space.",
        (*LOOP, KAPPA, OFFSET),
    ),
    Algorithm(
        "fedavg", "FedAvg (one common model)", "fl_jobs.algorithms.fedavg:FedAvg",
        "The sites share one model, averaged by their numbers of cases.", LOOP, dp="record",
    ),
    Algorithm(
        "local_only", "Local only (nothing is shared)", "fl_jobs.algorithms.local_only:LocalOnly",
        "Each site learns alone, with the same steps; the yardstick for every other algorithm.", LOOP,
        dp="none",
    ),
)  # fmt: skip
ALGORITHMS: dict[str, Algorithm] = {entry.name: entry for entry in _ENTRIES}
