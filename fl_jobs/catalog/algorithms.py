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
    ``needs_updates``: the server step needs each site's own update, which masks hide. ``dp``: the smallest
    unit differential privacy can be promised for; "record" needs a loss that separates by case and a round of
    one part, whose noised steps can be counted.
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
    Choice(
        "precision", "Precision",
        {"float32": "Full (float32)", "mixed": "Mixed (bfloat16 inside the network)"}, "float32",
        "Mixed is meant for sites with a GPU: larger networks train faster there; a processor seldom gains "
        "by it. What leaves a site and what is measured stays in full precision.",
    ),
)  # fmt: skip
# what a form keeps out of the way
RARELY_CHANGED = (
    "optimiser", "weight_decay", "clip_norm", "schedule", "class_weights", "augmentation", "precision",
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

PROX_PULL = HyperParameter(
    "prox_pull", "Pull to the common model", float, 0.001, 0.0, 10.0,
    "How strongly local training is held at the received model. 0 makes this FedAvg.",
)  # fmt: skip
OWN_PULL = HyperParameter(
    "own_pull", "Pull of the own model to the common model", float, 0.1, 0.0, 10.0,
    "How strongly the site's own model is drawn to the common one. 0 makes the own model local-only.",
)  # fmt: skip
HEAD_EPOCHS = HyperParameter(
    "head_epochs", "Passes for the head", int, 1, 1, 20,
    "How often a site goes through its training cases for the head before the common part learns; "
    "these come on top of the passes per round.",
)  # fmt: skip
FEDCP: tuple[Setting, ...] = (
    HyperParameter(
        "mmd_weight", "Feature alignment", float, 0.5, 0.0, 50.0,
        "How strongly a site's features are held at those of the received model. The paper's 5 is too "
        "strong for small data; 0 turns it off.",
    ),
    HyperParameter(
        "tau", "Gate temperature", float, 1.0, 0.1, 10.0,
        "Small: a feature goes to one head almost whole; large: both heads get half.",
    ),
)  # fmt: skip
GPFL: tuple[Setting, ...] = (
    HyperParameter(
        "embedding_pull", "Pull to the embeddings", float, 0.01, 0.0, 10.0,
        "How strongly features are drawn to the common embedding of their label.", {"text": 0.0001},
    ),
    HyperParameter(
        "embedding_decay", "Embedding decay", float, 0.0, 0.0, 1.0,
        "Weight decay of embeddings and valve, per step and unit of learning rate. The paper uses 0.1 with "
        "SGD on small networks; with Adam 0 did better.",
    ),
)  # fmt: skip
FEDALA: tuple[Setting, ...] = (
    HyperParameter(
        "mixing_rate", "Mixing rate", float, 1.0, 0.0, 100.0,
        "Step size of the mixture of own and common head. 0 makes this FedAvg.",
    ),
    HyperParameter(
        "mixing_share", "Cases for mixing", float, 0.8, 0.05, 1.0,
        "The share of the training cases that the mixture is learned on.",
    ),
    HyperParameter(
        "mixing_passes", "First mixing passes", int, 20, 1, 200,
        "The most passes for the mixture when it is learned for the first time; later it is one.",
    ),
)  # fmt: skip
FEDPROTO: tuple[Setting, ...] = (
    HyperParameter(
        "prototype_pull", "Pull to the prototypes", float, 1.0, 0.0, 100.0,
        "How strongly features are drawn to the common mean feature of their label.",
    ),
    HyperParameter(
        "prototype_cases", "Cases per prototype", int, 10, 1, 10000,
        "A site contributes to a label's mean feature only with at least so many training cases of it.",
    ),
)  # fmt: skip

_ENTRIES = (
    Algorithm(
        "dbe", "FedAvg + DBE (personal)", "fl_jobs.algorithms.dbe:DBE",
        "The sites share one model; each keeps an offset of its own in feature space.",
        (*LOOP, KAPPA, OFFSET),
    ),
    Algorithm(
        "fedcp", "FedCP (personal)", "fl_jobs.algorithms.fedcp:FedCP",
        "A gate divides each case's features between the site's own head and a common one.",
        (*LOOP, *FEDCP), needs_masking=True,
    ),
    Algorithm(
        "gpfl", "GPFL (personal)", "fl_jobs.algorithms.gpfl:GPFL",
        "A common table of label embeddings guides the features; each site sees them through its own mix "
        "of labels and keeps its head.",
        (*LOOP, *GPFL),
    ),
    Algorithm(
        "fedala", "FedALA (personal)", "fl_jobs.algorithms.fedala:FedALA",
        "FedAvg; each site mixes the common head into its own, entry by entry.",
        (*LOOP, *FEDALA), needs_masking=True,
    ),
    Algorithm(
        "ditto", "Ditto (personal)", "fl_jobs.algorithms.ditto:Ditto",
        "FedAvg, and beside it a model of the site's own that is drawn to the common one; twice the "
        "computing.",
        (*LOOP, OWN_PULL),
    ),
    Algorithm(
        "fedper", "FedPer (own head)", "fl_jobs.algorithms.fedper:FedPer",
        "A common base; each site keeps its head.", LOOP, dp="record",
    ),
    Algorithm(
        "fedrep", "FedRep (own head, fitted first)", "fl_jobs.algorithms.fedrep:FedRep",
        "A common base; each site keeps its head and fits it before the base learns.",
        (*LOOP, HEAD_EPOCHS),
    ),
    Algorithm(
        "fedbn", "FedBN (own normalisation)", "fl_jobs.algorithms.fedbn:FedBN",
        "FedAvg; each site keeps its normalisation layers. Without such layers it is FedAvg.", LOOP,
    ),
    Algorithm(
        "lg_fedavg", "LG-FedAvg (own base)", "fl_jobs.algorithms.lg_fedavg:LGFedAvg",
        "A common head; each site keeps its base.", LOOP, dp="record",
    ),
    Algorithm(
        "fedproto", "FedProto (common prototypes)", "fl_jobs.algorithms.fedproto:FedProto",
        "Each site keeps its whole network; only the mean feature of each label is common. Labels that "
        "fewer than three sites have are left out.",
        (*LOOP, *FEDPROTO), fold="fl_jobs.aggregation:fold_prototypes",
    ),
    Algorithm(
        "fedavg", "FedAvg (one common model)", "fl_jobs.algorithms.fedavg:FedAvg",
        "The sites share one model, averaged by their numbers of cases.", LOOP, dp="record",
    ),
    Algorithm(
        "fedprox", "FedProx (one common model, held back)", "fl_jobs.algorithms.fedprox:FedProx",
        "FedAvg; local training is held near the received model.", (*LOOP, PROX_PULL), dp="record",
    ),
    Algorithm(
        "local_only", "Local only (nothing is shared)", "fl_jobs.algorithms.local_only:LocalOnly",
        "Each site learns alone, with the same steps; the yardstick for every other algorithm.", LOOP,
        dp="none",
    ),
)  # fmt: skip
ALGORITHMS: dict[str, Algorithm] = {entry.name: entry for entry in _ENTRIES}
