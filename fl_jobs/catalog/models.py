"""The networks that can be run; ``path`` builds a SplitModel from (task, arguments)."""

from dataclasses import dataclass

from fl_jobs.catalog.settings import HyperParameter, Setting


@dataclass(frozen=True)
class Model:
    """A network. ``path`` builds a SplitModel from (task, arguments)."""

    name: str
    title: str
    path: str
    summary: str
    kinds: tuple[str, ...]
    arguments: tuple[Setting, ...] = ()


_ENTRIES = (
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
)  # fmt: skip
MODELS: dict[str, Model] = {entry.name: entry for entry in _ENTRIES}
