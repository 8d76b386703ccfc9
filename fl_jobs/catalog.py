"""What can be run: algorithms and models with typed hyper-parameters. Torch-free; the web forms read this.

An entry names its class by dotted path; only entries of this list are ever imported for a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fl_jobs.errors import SpecError

Value = bool | int | float | str
KINDS = ("tabular", "image", "text")


@dataclass(frozen=True)
class HyperParameter:
    """One typed setting. ``per_kind`` holds the defaults that were tuned for a kind of task."""

    name: str
    title: str
    type: type[int] | type[float]
    default: int | float
    minimum: int | float
    maximum: int | float
    help: str
    per_kind: Mapping[str, int | float] = field(default_factory=dict)

    def default_for(self, kind: str | None) -> int | float:
        return self.per_kind.get(kind or "", self.default)

    def check(self, value: Value, owner: str) -> int | float:
        """Return ``value`` as this setting's type. Raises SpecError with the allowed range."""
        wanted = "a whole number" if self.type is int else "a number"
        fits = isinstance(value, int) if self.type is int else isinstance(value, int | float)
        if isinstance(value, bool) or not fits:
            raise SpecError(f"{owner}: “{self.name}” must be {wanted}, not {value!r}. Correct it.")
        if not self.minimum <= float(value) <= self.maximum:  # NaN fails too
            raise SpecError(
                f"{owner}: “{self.name}” is {value}; choose a value from {self.minimum} to {self.maximum}."
            )
        return self.type(value)


@dataclass(frozen=True)
class Algorithm:
    """How sites learn together.

    ``fold`` is the torch-free server step, as ``module:function``. ``needs_masking``: parts of a site's
    personal model enter the sums (FedCP's heads), and whoever sees one site's update could recover them.
    """

    name: str
    title: str
    path: str
    summary: str
    hyper_parameters: tuple[HyperParameter, ...]
    fold: str = "fl_jobs.aggregation:fold_mean"
    kinds: tuple[str, ...] = KINDS
    needs_masking: bool = False


@dataclass(frozen=True)
class Model:
    """A network. ``path`` builds a SplitModel from (task, arguments)."""

    name: str
    title: str
    path: str
    summary: str
    kinds: tuple[str, ...]
    arguments: tuple[HyperParameter, ...] = ()


LOOP = (
    HyperParameter(
        "learning_rate", "Learning rate", float, 0.003, 0.00001, 1.0,
        "Step size of Adam in every arm.", {"tabular": 0.005, "image": 0.002, "text": 0.01},
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

ALGORITHMS: dict[str, Algorithm] = {
    entry.name: entry
    for entry in (
        Algorithm(
            "dbe", "FedAvg + DBE (personal)", "fl_jobs.algorithms.dbe:DBE",
            "The sites share one model; each keeps an offset of its own in feature space.",
            (*LOOP, KAPPA, OFFSET),
        ),
        Algorithm(
            "fedavg", "FedAvg (one common model)", "fl_jobs.algorithms.fedavg:FedAvg",
            "The sites share one model, averaged by their numbers of cases.", LOOP,
        ),
        Algorithm(
            "local_only", "Local only (nothing is shared)", "fl_jobs.algorithms.local_only:LocalOnly",
            "Each site learns alone, with the same steps; the yardstick for every other algorithm.", LOOP,
        ),
    )
}  # fmt: skip

MODELS: dict[str, Model] = {
    entry.name: entry
    for entry in (
        Model(
            "tabular_mlp", "Fully connected network (MONAI)", "fl_jobs.models.tabular:build",
            "For tables: two layers over the site's own standardisation.", ("tabular",),
            (
                HyperParameter("hidden", "Hidden units", int, 32, 4, 1024, "Width of the hidden layer."),
                HyperParameter("feature_dim", "Feature units", int, 16, 2, 1024, "Width before the head."),
            ),
        ),
        Model(
            "image_cnn", "Small convolutional network (MONAI)", "fl_jobs.models.image:build",
            "For small images: four convolutions with group normalisation.", ("image",),
            (HyperParameter("width", "Width", int, 16, 4, 128, "Channels of the first layer, in fours."),),
        ),
        Model(
            "text_hash", "Hashed characters", "fl_jobs.models.text:build",
            "For short texts of any language: hashed characters and pairs, averaged, then a small network.",
            ("text",),
            (
                HyperParameter("buckets", "Buckets", int, 16384, 256, 262144, "Rows of the embedding table."),
                HyperParameter("dim", "Embedding size", int, 32, 4, 512, "Numbers per character."),
                HyperParameter("feature_dim", "Feature units", int, 64, 2, 1024, "Width before the head."),
            ),
        ),
    )
}  # fmt: skip


def validate_hyper_parameters(
    algorithm: str, values: Mapping[str, Value], kind: str | None = None
) -> dict[str, int | float]:
    """All hyper-parameters of ``algorithm``, defaults (those of ``kind``, if given) filled in.

    Raises SpecError for an unknown algorithm or name, a wrong type or a value out of range.
    """
    entry = ALGORITHMS.get(algorithm)
    if entry is None:
        raise SpecError(f"There is no algorithm “{algorithm}”. Choose one of: {', '.join(ALGORITHMS)}.")
    if kind is not None and kind not in entry.kinds:
        raise SpecError(f"{entry.title} does not fit {kind} tasks. Choose another algorithm.")
    return _fill(entry.title, entry.hyper_parameters, values, kind)


def check_masking(algorithm: str, *, secure_aggregation: bool) -> None:
    """Refuse an algorithm whose sums hold personal parts when the server would see single updates.

    Raises SpecError.
    """
    if ALGORITHMS[algorithm].needs_masking and not secure_aggregation:
        raise SpecError(
            f"{ALGORITHMS[algorithm].title} sends personal parts inside masked sums only; without "
            "secure aggregation the server could recover them. Keep it on, or choose another algorithm."
        )


def validate_model(model: str, values: Mapping[str, Value], kind: str) -> dict[str, int | float]:
    """All arguments of ``model`` with defaults filled in. Raises SpecError like the algorithms' check."""
    entry = MODELS.get(model)
    if entry is None:
        raise SpecError(f"There is no model “{model}”. Choose one of: {', '.join(MODELS)}.")
    if kind not in entry.kinds:
        fitting = ", ".join(name for name, other in MODELS.items() if kind in other.kinds)
        raise SpecError(f"{entry.title} does not fit {kind} tasks. Choose one of: {fitting}.")
    return _fill(entry.title, entry.arguments, values, kind)


def _fill(
    owner: str, known: tuple[HyperParameter, ...], values: Mapping[str, Value], kind: str | None
) -> dict[str, int | float]:
    names = {parameter.name for parameter in known}
    for name in values:
        if name not in names:
            raise SpecError(f"{owner} has no setting “{name}”. Remove it; known: {', '.join(sorted(names))}.")
    return {
        parameter.name: parameter.check(values.get(parameter.name, parameter.default_for(kind)), owner)
        for parameter in known
    }
