"""The networks that can be run; ``path`` builds a SplitModel from (task, arguments, weights).

Two models of the same kind may use a setting's name only for the same setting: a form has it once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fl_jobs.catalog.settings import Choice, Digest, HyperParameter, Setting

PLAIN_TEXTS = "fl_jobs.data.texts:hashed_grams"


@dataclass(frozen=True)
class Model:
    """A network. ``path`` builds a SplitModel from (task, arguments, weights).

    ``encoder`` gives, from (arguments, folder of weights), the function that makes codes of texts.
    ``needs_weights``: there is nothing to start from without a file of trained weights. ``defaults``: those
    settings of the algorithm that must differ from the kind's for this network to learn at all.
    """

    name: str
    title: str
    path: str
    summary: str
    kinds: tuple[str, ...]
    arguments: tuple[Setting, ...] = ()
    encoder: str = PLAIN_TEXTS
    needs_weights: bool = False
    defaults: Mapping[str, float] = field(default_factory=dict)


def _features(default: int) -> HyperParameter:
    """At most 512: the modules that FedCP and GPFL add grow with the square of the width."""
    return HyperParameter("feature_dim", "Feature units", int, default, 2, 512, "Width before the head.")


IMAGE_FEATURES, TEXT_FEATURES = _features(128), _features(64)
WEIGHTS = Digest(
    "weights", "Trained weights",
    "SHA-256 and name of a file to start from, as sha256sum prints them. Every site must have it below "
    "“weights” in its folder. Empty: start from random numbers.",
)  # fmt: skip
NORM = Choice(
    "norm", "Normalisation",
    {"group": "Group", "frozen": "Batch, frozen statistics", "batch": "Batch, shared statistics"}, "group",
    "Group: nothing of a batch enters. Frozen: the statistics of the trained weights, never changed. Batch: "
    "the statistics of each site, pooled over the sites in every round.",
)  # fmt: skip
BACKBONE: tuple[Setting, ...] = (
    IMAGE_FEATURES, NORM,
    HyperParameter("dropout", "Dropout", float, 0.0, 0.0, 0.9, "Share of features left out in training."),
    WEIGHTS,
)  # fmt: skip
ROWS = HyperParameter("rows", "Character rows", int, 8192, 256, 65536, "Rows of the table of characters.")
TEXT_DROPOUT = HyperParameter(
    "dropout", "Dropout", float, 0.1, 0.0, 0.9, "Share of numbers left out in training."
)
ATTENTION_RATE = {"learning_rate": 0.001}  # SMP2019, 29 domains: 0.01 stays at the largest label, 0.16
# BreastMNIST, 200 images, 12 passes: from 0.002 on all three stay at the larger label, 0.0003 reaches 95 %
BACKBONE_RATE = {"learning_rate": 0.0003}
CHARACTERS = "fl_jobs.data.texts:hashed_characters"

_ENTRIES = (
    Model(
        "tabular_mlp", "Fully connected network (MONAI)", "fl_jobs.models.tabular:build",
        "For tables: two layers over the site's own standardisation.", ("tabular",),
        (
            HyperParameter("hidden", "Hidden units", int, 32, 4, 1024, "Width of the hidden layer."),
            _features(16),
        ),
    ),
    Model(
        "image_cnn", "Small convolutional network (MONAI)", "fl_jobs.models.image:build",
        "For small images: four convolutions with group normalisation.", ("image",),
        (HyperParameter("width", "Width", int, 16, 4, 128, "Channels of the first layer, in fours."),),
    ),
    Model(
        "image_conv2", "Two convolutions, as in the papers", "fl_jobs.models.conv2:build",
        "For digits and other tiny images: two convolutions with pooling and one layer, no normalisation.",
        ("image",),
        (
            HyperParameter(
                "filters", "Filters of the first layer", int, 32, 4, 128, "Twice as many in the second."
            ),
            HyperParameter("kernel", "Kernel", int, 5, 3, 7, "Side of a filter in pixels."),
            HyperParameter("padding", "Padding", int, 0, 0, 3, "Pixels of zeros added at each edge."),
            IMAGE_FEATURES,
        ),
    ),
    Model(
        "image_resnet18", "ResNet-18 (MONAI)", "fl_jobs.models.backbones:build_resnet18",
        "For images of any size: 18 layers with residual connections.", ("image",), BACKBONE,
        defaults=BACKBONE_RATE,
    ),
    Model(
        "image_densenet121", "DenseNet-121 (MONAI)", "fl_jobs.models.backbones:build_densenet121",
        "For images of any size: 121 layers, each reading all before it; slow without a GPU.", ("image",),
        BACKBONE, defaults=BACKBONE_RATE,
    ),
    Model(
        "image_efficientnet_b0", "EfficientNet-B0 (MONAI)", "fl_jobs.models.backbones:build_efficientnet_b0",
        "For images of any size: few weights to send, many layers.", ("image",), BACKBONE,
        defaults=BACKBONE_RATE,
    ),
    Model(
        "text_hash", "Hashed characters", "fl_jobs.models.text:build",
        "For short texts of any language: hashed characters and pairs, averaged, then a small network.",
        ("text",),
        (
            HyperParameter("buckets", "Buckets", int, 16384, 256, 262144, "Rows of the embedding table."),
            HyperParameter("dim", "Embedding size", int, 32, 4, 512, "Numbers per character."),
            TEXT_FEATURES,
        ),
    ),
    Model(
        "text_cnn", "Convolutions over characters", "fl_jobs.models.text:build_cnn",
        "For texts of any language: hashed characters, windows of two, three and four of them.", ("text",),
        (
            ROWS,
            HyperParameter("character_dim", "Character size", int, 64, 8, 512, "Numbers per character."),
            HyperParameter("windows", "Filters per window", int, 64, 4, 512, "For each width of a window."),
            TEXT_FEATURES, TEXT_DROPOUT,
        ),
        encoder=CHARACTERS,
    ),
    Model(
        "text_bert", "Small BERT over characters", "fl_jobs.models.transformer:build_small",
        "For texts of any language, Chinese first: attention over hashed characters, trained from nothing.",
        ("text",),
        (
            ROWS,
            HyperParameter("hidden", "Hidden units", int, 128, 16, 1024, "A multiple of the heads."),
            HyperParameter("layers", "Layers", int, 2, 1, 12, "Blocks of attention."),
            HyperParameter("heads", "Heads", int, 4, 1, 16, "Per block of attention."),
            HyperParameter("positions", "Longest text", int, 128, 8, 1024, "Characters read of a text."),
            TEXT_FEATURES, TEXT_DROPOUT,
        ),
        encoder=CHARACTERS, defaults=ATTENTION_RATE,
    ),
    Model(
        "text_checkpoint", "Trained language model (folder)", "fl_jobs.models.transformer:build_checkpoint",
        "A trained BERT or RoBERTa that every site has as a folder; whole, or with low-rank adapters.",
        ("text",),
        (
            WEIGHTS,
            Choice(
                "family", "Family",
                {"bert": "BERT", "roberta": "RoBERTa", "xlm-roberta": "XLM-RoBERTa"}, "bert",
                "As “model_type” in the folder's config.json.",
            ),
            HyperParameter("vocab_size", "Vocabulary", int, 21128, 16, 500000, "As in config.json."),
            HyperParameter("hidden_size", "Hidden size", int, 768, 8, 2048, "As in config.json."),
            HyperParameter("num_hidden_layers", "Hidden layers", int, 12, 1, 48, "As in config.json."),
            HyperParameter("num_attention_heads", "Attention heads", int, 12, 1, 64, "As in config.json."),
            HyperParameter("intermediate_size", "Inner size", int, 3072, 8, 8192, "As in config.json."),
            HyperParameter("max_position_embeddings", "Positions", int, 512, 8, 8194, "As in config.json."),
            HyperParameter("tokens", "Longest text in tokens", int, 128, 8, 4096, "The rest is not read."),
            HyperParameter(
                "adapter_rank", "Rank of the adapters", int, 8, 0, 64,
                "LoRA: only adapters, projection and head are trained and shared. 0 trains everything.",
            ),
            TEXT_FEATURES,
        ),
        encoder="fl_jobs.data.tokens:checkpoint_tokens", needs_weights=True, defaults=ATTENTION_RATE,
    ),
)  # fmt: skip
MODELS: dict[str, Model] = {entry.name: entry for entry in _ENTRIES}
