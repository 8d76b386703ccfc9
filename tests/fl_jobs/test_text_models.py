"""Models of texts: what they read does not depend on the batch, and checkpoints come from the site's disk."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModel

from fl_jobs.algorithms.build import build_algorithm, describe_tensors
from fl_jobs.data import encode_records, text_encoder
from fl_jobs.data.texts import encode_characters, encode_texts
from fl_jobs.errors import ModelFileError, SpecError
from fl_jobs.models.build import build_model
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.model_cases import TINY_BERT, make_run, make_task, write_checkpoint

TASK = make_task("text")
TEXTS = ["疼痛 3", "发热", "随访 复查 病人 12"]


def checkpoint_run(folder, family="bert", changes=(), **arguments):
    weights = write_checkpoint(folder, family, **dict(changes))
    arguments = {"family": family, "weights": weights} | arguments
    return make_run("text_checkpoint", TASK, tensors=False, **arguments)


def test_characters_are_the_codes_of_texts_without_the_pairs():
    both, single = encode_texts(["ａＢ c", ""], 60), encode_characters(["ａＢ c", ""], 60)
    assert single.tolist()[0] == both.tolist()[0][:4]
    assert single.shape == (2, 4)
    assert single[1].tolist() == [*encode_characters([" "], 9)[0].tolist(), 0, 0, 0]
    assert encode_characters(["abcdef"], 3).shape == (1, 3)


@pytest.mark.parametrize("name", ["text_cnn", "text_bert"])
def test_a_text_gets_the_same_answer_whatever_stands_beside_it(name):
    spec = make_run(name, TASK, tensors=False)
    model = build_model(spec).eval()
    encode = text_encoder(spec, None)
    among = model(torch.from_numpy(encode([*TEXTS, "字" * 60], 60)))
    for row, text in enumerate(TEXTS):
        alone = model(torch.from_numpy(encode([text], 60)))[0]
        assert torch.allclose(alone, among[row], atol=1e-6)


@pytest.mark.parametrize("name", ["text_cnn", "text_bert"])
def test_the_order_of_characters_matters_to_both(name):
    model = build_model(make_run(name, TASK, tensors=False)).eval()
    features = model.base(torch.from_numpy(encode_characters(["热发不痛疼", "疼痛不发热"], 60)))
    assert not torch.allclose(features[0], features[1], atol=1e-4)


def test_the_small_bert_reads_as_far_as_it_was_told():
    model = build_model(make_run("text_bert", TASK, tensors=False, positions=8)).eval()
    a, b = (
        torch.from_numpy(encode_characters([text], 60)) for text in ("一二三四五六七八九", "一二三四五六七八")
    )
    assert torch.equal(model(a), model(b))
    with pytest.raises(SpecError, match="no multiple of 3 heads"):
        build_model(make_run("text_bert", TASK, tensors=False, heads=3))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_a_checkpoint_answers_as_the_library_itself(tmp_path, family):
    spec = checkpoint_run(tmp_path, family, adapter_rank=0)
    model = build_model(spec, tmp_path).eval()
    codes = torch.from_numpy(encode_records(TASK, TEXTS, text_encoder(spec, tmp_path)))
    folder = tmp_path / spec.model.arguments["weights"].split()[0]
    library = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    rows = (codes - 1).masked_fill(codes == 0, library.config.pad_token_id)
    wanted = library(input_ids=rows, attention_mask=(codes != 0).long()).last_hidden_state[:, 0]
    assert torch.allclose(model.base[0](codes), wanted, atol=1e-5)
    assert len(describe_tensors(spec)) == len(model.state_dict())


def test_a_checkpoint_brings_its_tokenizer(tmp_path):
    spec = checkpoint_run(tmp_path)
    codes = text_encoder(spec, tmp_path)(["疼痛", "龘 1" * 20], 60)
    assert codes[0].tolist()[:5] == [3, 5, 6, 4, 0]  # [CLS] 疼 痛 [SEP] and padding, each one more
    assert codes.shape == (2, 12)
    assert codes[1, 1] == 2  # unknown
    with pytest.raises(SpecError, match="Name the folder"):
        text_encoder(spec, None)


def test_with_adapters_only_they_the_projection_and_the_head_are_shared_or_kept(tmp_path):
    spec = checkpoint_run(tmp_path)
    algorithm = build_algorithm(spec, "global", tmp_path)
    names = set(algorithm.shared_state())
    adapters = {name for name in names if ".lora_" in name}
    assert len(adapters) == 2 * 2 * 2  # layers × (query, value) × (A, B)
    assert names - adapters == {"base.1.weight", "base.1.bias", "head.weight", "head.bias"}
    assert algorithm.personal_state() == {}
    assert {name for name, p in algorithm.named_parameters()} == names
    assert {t.name for t in describe_tensors(spec)} == names
    fixed = {name: value.clone() for name, value in algorithm.base.named_buffers()}
    before = {name: value.clone() for name, value in algorithm.state_dict().items()}
    codes = torch.from_numpy(text_encoder(spec, tmp_path)(TEXTS * 4, 60))
    train_phase(algorithm, "train", Cases(codes, torch.arange(12) % 2), seed=1, words=("s", 1))
    assert all(torch.equal(value, fixed[name]) for name, value in algorithm.base.named_buffers())
    assert all(not torch.equal(value, before[name]) for name, value in algorithm.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 32}, "hidden_size = 32; the run says 16"),
        ({"model_type": "gpt2"}, "model_type = gpt2"),
        ({"type_vocab_size": 3}, "type_vocab_size = 3"),
    ],
)
def test_a_configuration_that_says_otherwise_is_refused(tmp_path, changes, words):
    with pytest.raises(SpecError, match=words):
        build_model(checkpoint_run(tmp_path, changes=changes), tmp_path)


def test_a_checkpoint_altered_or_incomplete_is_refused(tmp_path):
    spec = checkpoint_run(tmp_path)
    folder = tmp_path / spec.model.arguments["weights"].split()[0]
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": {"x": "evil.py"}}))
    with pytest.raises(ModelFileError, match="was altered"):
        build_model(spec, tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match="cannot be read"):
        text_encoder(spec, tmp_path)
    with pytest.raises(SpecError, match="starts from trained weights"):
        build_model(make_run("text_checkpoint", TASK, tensors=False), tmp_path)


def test_weights_of_another_size_are_refused(tmp_path):
    spec = checkpoint_run(tmp_path, changes=TINY_BERT | {"num_hidden_layers": 3}, num_hidden_layers=3)
    with pytest.raises(SpecError, match=r"lack “encoder\.layer\.2"):
        build_model(spec, tmp_path)


def test_the_tokenizer_must_fit_the_vocabulary(tmp_path):
    with pytest.raises(SpecError, match="knows token"):
        text_encoder(checkpoint_run(tmp_path, vocab_size=16), tmp_path)


def test_reading_texts_with_a_checkpoint_imports_no_torch():
    code = (
        "import sys, fl_jobs.data.tokens; sys.exit(any(n in sys.modules for n in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_attention_has_a_learning_rate_of_its_own_unless_one_is_given():
    spec = make_run("text_bert", TASK, tensors=False)
    assert build_algorithm(spec, "global").hyper_parameters["learning_rate"] == 0.001
    given = spec.model_copy(update={"hyper_parameters": {"learning_rate": 0.02}})
    assert build_algorithm(given, "global").hyper_parameters["learning_rate"] == 0.02
    other = make_run("text_cnn", TASK, tensors=False)
    assert build_algorithm(other, "global").hyper_parameters["learning_rate"] == 0.01


def test_the_small_bert_is_the_same_each_time_and_learns():
    spec = make_run("text_bert", TASK, tensors=False, hidden=32)
    codes = torch.from_numpy(encode_characters(["疼痛发热", "随访复查"] * 12, 60))
    cases = Cases(codes, torch.arange(24) % 2)
    losses = []
    for _ in range(2):
        algorithm = build_algorithm(spec, "global")
        rounds = (train_phase(algorithm, "train", cases, seed=1, words=("s", n)) for n in range(25))
        losses.append([trained.loss_sum for trained in rounds])
    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.5 * losses[0][0]
    assert np.isfinite(losses).all()
