"""What can be run: algorithms and models with typed hyper-parameters. Torch-free; the web forms read this.

An entry names its class by dotted path; only entries of these lists are ever imported for a run.
"""

from collections.abc import Mapping

from fl_jobs.catalog.algorithms import ALGORITHMS, KINDS, LOOP, RARELY_CHANGED, Algorithm
from fl_jobs.catalog.models import MODELS, Model
from fl_jobs.catalog.settings import Checked, Choice, Digest, HyperParameter, Setting, Value, fill
from fl_jobs.catalog.templates import TEMPLATES, Filled, Template, fill_template
from fl_jobs.errors import SpecError

__all__ = (
    "ALGORITHMS", "KINDS", "LOOP", "MODELS", "RARELY_CHANGED", "TEMPLATES", "Algorithm", "Checked", "Choice",
    "Digest", "Filled", "HyperParameter", "Model", "Setting", "Template", "Value", "check_masking",
    "fill_template", "validate_hyper_parameters", "validate_model",
)  # fmt: skip


def validate_hyper_parameters(
    algorithm: str, values: Mapping[str, Value], kind: str | None = None, model: str = ""
) -> dict[str, Checked]:
    """All hyper-parameters of ``algorithm``, defaults (those of ``model``, then of ``kind``) filled in.

    Raises SpecError for an unknown algorithm or name, a wrong type or a value out of range.
    """
    entry = ALGORITHMS.get(algorithm)
    if entry is None:
        raise SpecError(f"There is no algorithm “{algorithm}”. Choose one of: {', '.join(ALGORITHMS)}.")
    if kind is not None and kind not in entry.kinds:
        raise SpecError(f"{entry.title} does not fit {kind} tasks. Choose another algorithm.")
    own = MODELS[model].defaults if model in MODELS else {}
    return fill(entry.title, entry.hyper_parameters, {**own, **values}, kind)


def check_masking(algorithm: str, *, secure_aggregation: bool) -> None:
    """Refuse an algorithm whose sums hold personal parts when the server would see single updates.

    And one whose server step needs single updates when masks hide them. Raises SpecError.
    """
    entry = ALGORITHMS[algorithm]
    if entry.needs_masking and not secure_aggregation:
        raise SpecError(
            "“%(algorithm)s” sends personal parts inside masked sums only; without masks the server could "
            "recover them. Keep secure aggregation on, or choose another algorithm.",
            algorithm=entry.title,
        )
    if entry.needs_updates and secure_aggregation:
        raise SpecError(
            "“%(algorithm)s” needs each site's own update at the server, and secure aggregation shows it "
            "sums only. Choose an algorithm that works with sums.",
            algorithm=entry.title,
        )


def validate_model(model: str, values: Mapping[str, Value], kind: str) -> dict[str, Checked]:
    """All arguments of ``model`` with defaults filled in. Raises SpecError like the algorithms' check."""
    entry = MODELS.get(model)
    if entry is None:
        raise SpecError(f"There is no model “{model}”. Choose one of: {', '.join(MODELS)}.")
    if kind not in entry.kinds:
        fitting = ", ".join(name for name, other in MODELS.items() if kind in other.kinds)
        raise SpecError(f"{entry.title} does not fit {kind} tasks. Choose one of: {fitting}.")
    checked = fill(entry.title, entry.arguments, values, kind)
    if entry.needs_weights and not checked["weights"]:
        raise SpecError(
            "%(title)s starts from trained weights. Name them by their SHA-256.", title=entry.title
        )
    if checked.get("norm") == "frozen" and not checked["weights"]:
        raise SpecError(
            "%(title)s: statistics can be frozen only where they come from trained weights. Name the weights "
            "by their SHA-256, or choose group normalisation.",
            title=entry.title,
        )
    return checked
