"""Attention over a text, by ``transformers``: small and untrained, or a checkpoint of the site's own disk.

Nothing is ever downloaded, no code comes with a checkpoint: configurations are built from numbers here and
weights are read as safetensors. Shape suffixes: B = batch, L = length, D = hidden, K = feature.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fl_jobs.errors import ModelFileError, SpecError
from fl_jobs.models.loading import decode_weights, fix_parameters, load_exactly
from fl_jobs.models.text import fold_codes
from fl_jobs.packaging.spec import TaskSpec
from fl_jobs.split_model import Scaler, SplitModel
from fl_jobs.weights import read_checkpoint

for _variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ[_variable] = "1"  # read when the library is imported, below

from transformers import AutoConfig, AutoModel, BertConfig, PreTrainedConfig  # noqa: E402

SPECIAL = 2  # rows 0 and 1 of the small model: padding, and the token that begins every text
SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip
SHAPING = {  # what else decides about shapes, by family; the folder's config.json must agree
    "bert": {"type_vocab_size": 2, "pad_token_id": 0},
    "roberta": {"type_vocab_size": 1, "pad_token_id": 1},
    "xlm-roberta": {"type_vocab_size": 1, "pad_token_id": 1},
}
FREE = (
    "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "initializer_range",
    "layer_norm_eps",
)  # fmt: skip
UNUSED = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
ATTENTION = "eager"  # plain operations: the same numbers on every CPU, and torch.func can stack them


class Encoder(nn.Module):
    """The output at a text's first token. Code 0 is padding and is not attended to."""

    def __init__(self, trunk: nn.Module, padding: int) -> None:
        super().__init__()
        self.trunk, self.padding = trunk, padding

    def forward(self, codes_BL: Tensor) -> Tensor:
        inside_BL = codes_BL != 0
        rows_BL = (codes_BL - 1).masked_fill(~inside_BL, self.padding)
        answer = self.trunk(input_ids=rows_BL, attention_mask=inside_BL.long())
        first_BD: Tensor = answer.last_hidden_state[:, 0]
        return first_BD


class CharacterRows(nn.Module):
    """Hashed characters as the codes of a small vocabulary, behind the token that begins every text."""

    def __init__(self, rows: int, positions: int) -> None:
        super().__init__()
        self.rows, self.positions = rows, positions

    def forward(self, codes_BL: Tensor) -> Tensor:
        cut_BL = codes_BL[:, : self.positions]
        rows_BL = fold_codes(cut_BL, self.rows)
        rows_BL = torch.where(rows_BL == 0, 0, rows_BL + SPECIAL)  # one more than the row; 0 stays padding
        begin_B1 = torch.full_like(rows_BL[:, :1], SPECIAL)
        return torch.cat([begin_B1, rows_BL], dim=1)


def build_small(task: TaskSpec, arguments: Mapping[str, Any], weights: Path | None = None) -> SplitModel:
    """A BERT from its configuration alone. Raises SpecError."""
    del weights
    hidden, heads, rows = (int(arguments[name]) for name in ("hidden", "heads", "rows"))
    if hidden % heads:
        raise SpecError(f"{hidden} hidden units are no multiple of {heads} heads. Choose another number.")
    positions = min(int(arguments["positions"]), task.max_characters)
    config = BertConfig(
        vocab_size=rows + SPECIAL,
        hidden_size=hidden,
        num_hidden_layers=int(arguments["layers"]),
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=positions + 1,
        type_vocab_size=1,
        hidden_dropout_prob=float(arguments["dropout"]),
        attention_probs_dropout_prob=float(arguments["dropout"]),
    )
    trunk = Encoder(_trunk(config), padding=0)
    return _split(nn.Sequential(CharacterRows(rows, positions), trunk), hidden, task, arguments)


def build_checkpoint(task: TaskSpec, arguments: Mapping[str, Any], weights: Path | None) -> SplitModel:
    """A checkpoint's encoder; its sizes stand in the specification, so that its tensors are known without it.

    With adapters (Hu et al., ICLR 2022, arXiv:2106.09685: queries and values) everything else of it is fixed
    and no part of the model's state. Raises SpecError, ModelFileError.
    """
    family, title = str(arguments["family"]), str(arguments["weights"])
    if int(arguments["hidden_size"]) % int(arguments["num_attention_heads"]):
        raise SpecError("The hidden size is no multiple of the attention heads. Copy both from config.json.")
    numbers = {name: int(arguments[name]) for name in SIZES} | SHAPING[family]
    if weights is None:
        with torch.device("meta"):  # shapes only: no memory for a hundred million numbers in the portal
            trunk = _trunk(AutoConfig.for_model(family, **numbers))
    else:
        files = read_checkpoint(weights, title)
        trunk = _trunk(AutoConfig.for_model(family, **numbers, **_free_values(files, family, numbers)))
        load_exactly(trunk, _own(decode_weights(files["model.safetensors"], title), trunk), title)
    if rank := int(arguments["adapter_rank"]):
        _add_adapters(trunk, rank)
    encoder = Encoder(trunk, padding=int(numbers["pad_token_id"]))
    return _split(encoder, numbers["hidden_size"], task, arguments)


def _trunk(config: PreTrainedConfig) -> nn.Module:
    build: Any = AutoModel.from_config
    trunk: nn.Module = build(config, attn_implementation=ATTENTION, add_pooling_layer=False)
    return trunk


def _split(encoder: nn.Module, hidden: int, task: TaskSpec, arguments: Mapping[str, Any]) -> SplitModel:
    feature_dim = int(arguments["feature_dim"])
    base = nn.Sequential(encoder, nn.Linear(hidden, feature_dim), nn.ReLU())
    return SplitModel(base, nn.Linear(feature_dim, len(task.labels)), Scaler(0))


def _free_values(files: Mapping[str, bytes], family: str, numbers: Mapping[str, int]) -> dict[str, Any]:
    """What config.json says beyond the specification. Raises SpecError where the two disagree."""
    try:
        config = json.loads(files["config.json"])
        found = {"model_type": config["model_type"]} | {name: config.get(name) for name in numbers}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError("The checkpoint's config.json cannot be read. Copy the folder again.") from error
    for name, value in ({"model_type": family} | dict(numbers)).items():
        if found[name] != value:
            raise SpecError(
                f"The checkpoint's config.json says {name} = {str(found[name])[:40]}; the run says {value}. "
                "Copy the settings from config.json and submit the run again."
            )
    return {name: config[name] for name in FREE if name in config}


def _own(found: dict[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """The encoder's tensors of a checkpoint, by the names of today; heads of pre-training are left out."""
    prefix = f"{getattr(trunk, 'base_model_prefix', '')}."
    if any(name.startswith(prefix) for name in found):
        found = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
    found = {k: v for k, v in found.items() if not k.startswith(UNUSED)}
    old = {".gamma": ".weight", ".beta": ".bias"}
    for ending, new in old.items():
        found = {k.removesuffix(ending) + new if k.endswith(ending) else k: v for k, v in found.items()}
    return found


def _add_adapters(trunk: nn.Module, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=["query", "value"]), trunk
    )
    fix_parameters(trunk)
