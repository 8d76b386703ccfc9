"""Every model of the catalog, and what stands in place of batch normalisation."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fl_jobs.aggregation import fold_mean
from fl_jobs.algorithms.build import build_algorithm, describe_tensors, initial_sha256
from fl_jobs.catalog import MODELS, validate_model
from fl_jobs.catalog.settings import Digest
from fl_jobs.errors import SpecError
from fl_jobs.messages import Sums
from fl_jobs.models.build import build_model
from fl_jobs.models.norms import FrozenBatchNorm, SharedBatchNorm, count_groups, replace_batch_norms
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.model_cases import (
    BACKBONES,
    SMALL,
    fill_random,
    inputs,
    make_run,
    make_task,
    write_weights,
)

TRAINABLE = sorted(name for name, entry in MODELS.items() if not entry.needs_weights)
EVERY = pytest.mark.parametrize("name", TRAINABLE)
EACH_BACKBONE = pytest.mark.parametrize("name", BACKBONES)


def kind_of(name):
    return MODELS[name].kinds[0]


def build(name, task=None, **arguments):
    return build_model(make_run(name, task or make_task(kind_of(name)), tensors=False, **arguments))


def train(algorithm, x, seed=1):
    return train_phase(algorithm, "train", Cases(x, torch.arange(len(x)) % 2), seed=seed, words=("s", 1))


@EVERY
def test_a_model_gives_one_number_per_label_and_a_feature_of_the_width_asked_for(name):
    task = make_task(kind_of(name))
    model = build(name, task).eval()
    x = inputs(task)
    assert model(x).shape == (5, 2)
    features = model.base(model.scaler(x))
    assert features.shape == (5, model.head.in_features)
    assert model.head.in_features == SMALL[name].get("feature_dim", 4 * SMALL[name].get("width", 0))
    assert torch.isfinite(features).all()
    assert (features >= 0).all()


@pytest.mark.parametrize("name", [name for name in TRAINABLE if name.startswith("image_")])
@pytest.mark.parametrize("size", [(1, 8, 8), (2, 9, 23), (3, 28, 28), (1, 64, 40), (3, 8, 100)])
def test_an_image_model_takes_images_of_any_size_and_sees_them(name, size):
    task = make_task("image", *size)
    model = build(name, task).train()
    x = inputs(task, 4)
    features = model.base(model.scaler(x))
    assert features.std(dim=0).max() > 0  # not blind: other images, other features
    model(x).sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_too_small_an_image_gets_a_sentence():
    with pytest.raises(SpecError, match="8 × 8 pixels are too small"):
        build("image_conv2", make_task("image", 1, 8, 8), kernel=5, padding=0)


@pytest.mark.parametrize(
    ("size", "arguments", "numbers"),
    [
        (28, {"filters": 32, "kernel": 5, "padding": 0, "feature_dim": 512}, 582_026),
        (8, {"filters": 16, "kernel": 3, "padding": 1, "feature_dim": 64}, 13_706),
    ],
)
def test_two_convolutions_are_the_networks_of_the_anchors(size, arguments, numbers):
    task = make_task("image", 1, size, size).model_copy(update={"labels": tuple("0123456789")})
    model = build("image_conv2", task, **arguments)
    assert sum(p.numel() for p in model.parameters()) == numbers


@EVERY
def test_the_same_seed_gives_the_same_model_and_the_world_outside_does_not_matter(name):
    first = initial_sha256(make_run(name, make_task(kind_of(name)), tensors=False))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert initial_sha256(make_run(name, make_task(kind_of(name)), tensors=False)) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert initial_sha256(make_run(name, make_task(kind_of(name)), tensors=False, seed=8)) != first


@EVERY
def test_training_is_reproducible_and_answers_do_not_vary(name):
    task = make_task(kind_of(name))
    dropout = {"dropout": 0.5} if any(s.name == "dropout" for s in MODELS[name].arguments) else {}
    spec, x = make_run(name, task, tensors=False, **dropout), inputs(task, 9)
    states, answers = [], []
    for seed in (1, 1, 2):
        algorithm = build_algorithm(spec, "global")
        train(algorithm, x, seed)
        states.append(algorithm.state_dict())
        answers += [algorithm.eval()(x), algorithm(x)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert torch.equal(answers[0], answers[1])
    if dropout:
        torch.manual_seed(0)
        algorithm.train()
        assert not torch.equal(algorithm(x), algorithm(x))


@EACH_BACKBONE
def test_no_batch_normalisation_is_left_by_default(name):
    model = build(name)
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    groups = [m for m in model.modules() if isinstance(m, nn.GroupNorm)]
    assert groups
    assert all(m.num_groups <= 32 and m.num_channels // m.num_groups >= 4 for m in groups)
    assert not list(
        build_algorithm(make_run(name, make_task("image"), tensors=False), "global").base.buffers()
    )


def test_groups_divide_the_channels():
    assert [count_groups(channels) for channels in (3, 24, 32, 40, 64, 96, 112, 1280)] == [
        *(1, 6, 8, 10, 16, 24, 28, 32)
    ]


@EACH_BACKBONE
def test_frozen_statistics_are_those_of_the_file_and_stay(name, tmp_path):
    task = make_task("image", 1, 16, 16)
    source = batch_network(name, task)
    weights = write_weights(tmp_path, source)
    spec = make_run(name, task, tensors=False, norm="frozen", weights=weights)
    algorithm = build_algorithm(spec, "global", tmp_path)
    frozen = {n: m for n, m in algorithm.base.named_modules() if isinstance(m, FrozenBatchNorm)}
    before = {name: value.clone() for name, value in algorithm.state_dict().items()}
    train(algorithm, inputs(task, 9))
    assert frozen
    for key, module in frozen.items():
        assert torch.equal(module.running_mean, source[f"{key}.running_mean"])
        assert torch.equal(module.running_var, source[f"{key}.running_var"])
    learnt = [not torch.equal(module.weight, before[f"base.{key}.weight"]) for key, module in frozen.items()]
    assert sum(learnt) > len(learnt) / 2  # scale and shift learn, where the random weights let a gradient by
    assert not [key for key in before if "running" in key]
    names = {t.name for t in describe_tensors(spec)}
    assert names == set(algorithm.shared_state()) == {key for key in before if not key.startswith("scaler.")}


def batch_network(name, task):
    """Tensors as a training elsewhere would leave them, with the network's own last layer."""
    spec = make_run(name, task, tensors=False, norm="batch")
    state = fill_random(build_model(spec).base)
    last = {
        "image_resnet18": "fc.",
        "image_densenet121": "class_layers.out.",
        "image_efficientnet_b0": "_fc.",
    }
    kept = {key: value for key, value in state.items() if not key.startswith(last[name])}
    return kept | {f"{last[name]}weight": torch.ones(7, 3)}


def test_frozen_without_weights_is_refused_with_the_way_out():
    with pytest.raises(SpecError, match="Name the weights by their SHA-256, or choose group"):
        validate_model("image_resnet18", {"norm": "frozen"}, "image")


@EACH_BACKBONE
def test_shared_statistics_are_pooled_as_if_all_cases_lay_in_one_place(name):
    spec = make_run(name, make_task("image", 1, 32, 32), norm="batch")
    declared = {t.name for t in spec.tensors if t.arm == "global"}
    sites = [build_algorithm(spec, "global") for _ in range(3)]
    counts = np.array([8, 12, 24])
    totals, means, variances = {}, {}, {}
    for index, (site, count) in enumerate(zip(sites, counts, strict=True)):
        x = inputs(spec.study.task, int(count), seed=index) // (index + 1)
        site.scaler.fit(inputs(spec.study.task, 4))  # the same scale, so that the sites' statistics differ
        train(site, x)
        for module in site.modules():
            if isinstance(module, SharedBatchNorm):
                module.running_mean += 0.3 * index  # three steps alone part the sites too little
        sums = {key: value.detach().double().numpy() for key, (value, _) in site.sums().items()}
        assert sums.keys() == declared
        for key, value in sums.items():
            totals[key] = totals.get(key, 0.0) + value * count
        for key, value in site.state_dict().items():
            into = (
                means if key.endswith("running_mean") else variances if key.endswith("running_var") else None
            )
            if into is not None:
                into.setdefault(key, []).append(value.double().numpy())
    aggregate = fold_mean({}, Sums(totals, dict.fromkeys(totals, float(counts.sum()))))
    share = counts / counts.sum()
    assert variances
    for key, parts in variances.items():
        centres = np.stack(means[key.replace("running_var", "running_mean")])
        between = share @ (centres - share @ centres) ** 2
        assert (between > 0.01 * share @ np.stack(parts)).any()  # else means of variances alone would pass
        np.testing.assert_allclose(aggregate[key], share @ np.stack(parts) + between, rtol=1e-3, atol=1e-5)
    sites[0].receive("train", {key: torch.from_numpy(value) for key, value in aggregate.items()})
    assert all(torch.isfinite(sites[0].eval()(inputs(spec.study.task))).flatten())
    counters = [key for key in sites[0].personal_state() if key.endswith("num_batches_tracked")]
    assert len(counters) == len(variances)


def test_a_batch_of_one_pixel_takes_the_running_statistics():
    norm = SharedBatchNorm(3).train()
    assert torch.allclose(norm(torch.ones(1, 3, 1, 1)), torch.ones(1, 3, 1, 1), atol=1e-4)
    assert torch.equal(norm.running_mean, torch.zeros(3))
    norm(torch.ones(2, 3, 1, 1))
    assert not torch.equal(norm.running_mean, torch.zeros(3))


def test_a_frozen_norm_answers_as_the_batch_normalisation_it_replaces():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    network.load_state_dict(fill_random(network))
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before = network.eval()(x)
    replace_batch_norms(network, "frozen")
    assert torch.equal(network.train()(x), before)


@EVERY
def test_settings_of_one_name_are_one_setting_within_a_kind(name):
    for other in MODELS.values():
        if set(other.kinds) & set(MODELS[name].kinds):
            mine = {s.name: s for s in MODELS[name].arguments}
            assert all(mine.get(s.name, s) == s for s in other.arguments)


def test_no_feature_is_wider_than_512():
    for entry in MODELS.values():
        for setting in entry.arguments:
            assert setting.name != "feature_dim" or setting.maximum <= 512


def test_a_digest_is_what_sha256sum_prints():
    setting = Digest("weights", "Weights", "help")
    digest = "AB" * 32
    assert setting.check("", "x") == ""
    assert setting.check(f"{digest}  resnet 18.safetensors", "x") == f"{'ab' * 32} resnet 18.safetensors"
    assert setting.check(digest, "x") == "ab" * 32
    for bad in ("ab", digest + "0", digest + " a\nb", "g" * 64, 5, True, f"{digest} {'x' * 81}"):
        with pytest.raises(SpecError, match="64 digits"):
            setting.check(bad, "x")


def test_the_door_to_models_does_not_import_transformers():
    code = (
        "import sys, fl_jobs.models.build, fl_jobs.algorithms.build, fl_jobs.data, fl_jobs.site_session\n"
        "sys.exit(any(name in sys.modules for name in ('transformers', 'peft', 'tokenizers', 'monai')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
