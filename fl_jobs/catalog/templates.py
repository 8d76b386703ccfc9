"""Templates: what to start from for three common tasks, with each algorithm that suits them. Torch-free.

Those of the hotline were tuned on validation parts of the demo's synthetic requests. Of tables nothing that
was tried in folds of heart patients was distinguishably better (docs/benchmarks.md). Those of images are a
start that ends after minutes; a smaller learning rate is as good.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fl_jobs.catalog.algorithms import ALGORITHMS
from fl_jobs.catalog.settings import Checked, Value
from fl_jobs.errors import SpecError


@dataclass(frozen=True)
class Template:
    """A task and what to run for it.

    ``settings`` go with every algorithm, ``per_algorithm`` names the algorithms the template is offered with
    and what is different for each. Whatever is not named keeps the catalog's default.
    """

    name: str
    title: str
    summary: str
    kind: str
    model: str
    arguments: Mapping[str, Value]
    rounds: int
    settings: Mapping[str, Value]
    per_algorithm: Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True)
class Filled:
    """A template for one algorithm: what a run form is filled with."""

    algorithm: str
    model: str
    rounds: int
    hyper_parameters: dict[str, Checked]
    arguments: dict[str, Checked]


_ENTRIES = (
    Template(
        "cancer-image", "Cancer image classifier",
        "Small images of tissue or skin. Rare labels weigh as much as frequent ones.",
        "image", "image_cnn", {"width": 16}, 20,
        {"class_weights": "balanced", "augmentation": "strong"},
        {"dbe": {}, "fedcp": {}, "gpfl": {}, "fedper": {}, "ditto": {}},
    ),
    Template(
        "cytology-table", "Cytology table",
        "A few dozen measured columns per patient and a few hundred patients at a site.",
        "tabular", "tabular_mlp", {"hidden": 32, "feature_dim": 16}, 12,
        {"weight_decay": 0.001},
        {"dbe": {}, "fedcp": {}, "gpfl": {}, "fedper": {}, "ditto": {}},
    ),
    Template(
        "hotline-intent", "Hotline intent",
        "Short requests of citizens and the department each belongs to; provinces route some of them "
        "differently.",
        "text", "text_hash", {"buckets": 8192, "dim": 32, "feature_dim": 64}, 12,
        {"local_epochs": 2, "batch_size": 32},
        {"dbe": {}, "fedcp": {}, "gpfl": {}, "fedper": {}, "ditto": {}},
    ),
)  # fmt: skip
TEMPLATES: dict[str, Template] = {entry.name: entry for entry in _ENTRIES}


def fill_template(name: str, algorithm: str) -> Filled:
    """What the template says for ``algorithm``. Raises SpecError when there is no such pair."""
    template = TEMPLATES.get(name)
    if template is None or algorithm not in template.per_algorithm or algorithm not in ALGORITHMS:
        raise SpecError(f"There is no template “{name}” for “{algorithm}”. Choose one of the list.")
    return Filled(
        algorithm=algorithm,
        model=template.model,
        rounds=template.rounds,
        hyper_parameters={**template.settings, **template.per_algorithm[algorithm]},
        arguments=dict(template.arguments),
    )
