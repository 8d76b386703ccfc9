"""Runs of one model of the catalog, and files of trained weights for them."""

import hashlib
import json

import torch
from safetensors.torch import save, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel

from fl_jobs.packaging.spec import ModelSpec, PolicySpec, RunSpec, StudySpec, TaskSpec
from fl_jobs.simulate import with_tensors
from fl_jobs.weights import digest_path
from tests.fl_jobs.sites import FEATURES, LABELS

TINY_BERT = {
    "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 20,
}  # fmt: skip
BACKBONES = ("image_densenet121", "image_efficientnet_b0", "image_resnet18")
SMALL = {
    "tabular_mlp": {"hidden": 8, "feature_dim": 4},
    "image_cnn": {"width": 4},
    "image_conv2": {"filters": 4, "kernel": 3, "padding": 1, "feature_dim": 8},
    "image_resnet18": {"feature_dim": 8},
    "image_densenet121": {"feature_dim": 8},
    "image_efficientnet_b0": {"feature_dim": 8},
    "text_hash": {"buckets": 256, "dim": 4, "feature_dim": 4},
    "text_cnn": {"rows": 256, "character_dim": 8, "windows": 4, "feature_dim": 4},
    "text_bert": {"rows": 256, "hidden": 16, "layers": 1, "heads": 2, "positions": 20, "feature_dim": 4},
    "text_checkpoint": TINY_BERT | {"tokens": 12, "adapter_rank": 2, "feature_dim": 4},
}


def make_task(kind, channels=3, height=16, width=16):
    if kind == "tabular":
        return TaskSpec(kind=kind, labels=LABELS, features=FEATURES)
    if kind == "text":
        return TaskSpec(kind=kind, labels=LABELS, max_characters=60)
    return TaskSpec(kind=kind, labels=LABELS, channels=channels, height=height, width=width)


def make_run(model, task, algorithm="fedavg", *, seed=7, rounds=1, tensors=True, small=True, **arguments):
    spec = RunSpec(
        study=StudySpec(slug="study", purpose="test", dataset="cases", task=task),
        algorithm=algorithm,
        hyper_parameters={"batch_size": 8},
        model=ModelSpec(name=model, arguments=(SMALL[model] if small else {}) | arguments),
        rounds=rounds,
        seed=seed,
        min_sites=2,
        policy=PolicySpec(secure_aggregation=False),
    )
    return with_tensors(spec) if tensors else spec


def inputs(task, rows=5, *, length=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if task.kind == "tabular":
        return torch.randn(rows, len(task.features), generator=generator)
    if task.kind == "text":
        codes = torch.randint(1, 30, (rows, length), generator=generator)
        codes[0, length // 2 :] = 0
        return codes
    shape = (rows, task.channels, task.height, task.width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def fill_random(network, seed=0):
    """Statistics and scales as after a training elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.1 * torch.rand(value.shape, generator=generator) if value.dim() == 1 else value
        for name, value in network.state_dict().items()
    }


def write_weights(folder, tensors):
    """Put a file where a site has it; return what a specification says."""
    data = save({name: value.contiguous() for name, value in tensors.items()})
    return write_bytes(folder, data)


def write_bytes(folder, data):
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(data).hexdigest()
    (folder / f"{digest}.safetensors").write_bytes(data)
    return f"{digest} made for a test"


def write_checkpoint(folder, family="bert", **changes):
    """A tiny checkpoint with a character tokenizer, put under its digest; return what a spec says."""
    draft = folder / "draft"
    draft.mkdir(parents=True)
    extra = {"type_vocab_size": 1, "pad_token_id": 1} if family != "bert" else {"pad_token_id": 0}
    config = AutoConfig.for_model(family, **TINY_BERT, **extra)
    torch.manual_seed(1)
    network = AutoModel.from_config(config)
    prefix = f"{network.base_model_prefix}."
    tensors = {prefix + name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors | {"cls.predictions.bias": torch.zeros(3)}, draft / "model.safetensors")
    (draft / "config.json").write_text(json.dumps(config.to_dict() | changes))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"疼痛发热随访复查病人0123456789"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(draft / "tokenizer.json"))
    digest = digest_path(draft)
    draft.rename(folder / digest)
    return f"{digest} tiny"
