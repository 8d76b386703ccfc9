"""The formulas of the methods against code that spells them out."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fl_jobs.aggregation import fold_mean, fold_prototypes
from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.algorithms.fedcp import BANDWIDTHS, mmd
from fl_jobs.messages import Sums
from fl_jobs.split_model import Scaler, SplitModel
from fl_jobs.training import Cases, train_phase
from tests.fl_jobs.recording import spec_of
from tests.fl_jobs.sites import FEATURES

X = torch.randn(30, len(FEATURES), generator=torch.Generator().manual_seed(4))
Y = torch.arange(30) % 2


def build(name, **hyper_parameters):
    return build_algorithm(spec_of(name, **hyper_parameters), "personal")


def train(algorithm, rounds=1):
    for number in range(rounds):
        train_phase(algorithm, TRAIN, Cases(X, Y), seed=1, words=("a", TRAIN, number))
    return algorithm


def other_aggregate(algorithm, *, by=0.3):
    """What might come back: the shared tensors, moved."""
    generator = torch.Generator().manual_seed(9)
    return {
        key: value + by * torch.randn(value.shape, generator=generator)
        for key, value in algorithm.shared_state().items()
    }


def test_mmd_is_the_double_loop_over_all_pairs():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(5, 3, generator=generator) * 3 for _ in range(2))

    def kernel(a, b):
        return sum(math.exp(-float((a - b).square().sum()) / (2 * width)) for width in BANDWIDTHS)

    total = sum(
        kernel(one[i], one[j]) + kernel(other[i], other[j]) - 2 * kernel(one[i], other[j])
        for i in range(5)
        for j in range(5)
    )
    assert float(mmd(one, other)) == pytest.approx(total / 25, abs=1e-5)
    assert float(mmd(one, one)) == pytest.approx(0, abs=1e-6)
    assert BANDWIDTHS == (10.0, 15.0, 20.0, 50.0)


def test_fedcp_divides_by_the_gate_without_noise_in_eval():
    algorithm = train(build("fedcp", tau=0.5)).eval()
    h = algorithm.base(algorithm.scaler(X))
    context = algorithm.head.weight.detach().sum(dim=0)
    linear, norm = algorithm.gate[0], algorithm.gate[1]
    z = functional.relu(norm(linear(h * context / context.norm()))).reshape(30, 2, -1)
    own, common = torch.softmax(z / 0.5, dim=1).unbind(dim=1)
    assert torch.allclose(own + common, torch.ones_like(own))
    expected = algorithm.head(own * h) + algorithm.global_head(common * h)
    assert torch.allclose(algorithm(X), expected, atol=1e-6)
    assert torch.equal(algorithm(X), algorithm(X))
    algorithm.train()
    assert not torch.equal(algorithm(X), algorithm(X))


def test_fedcp_holds_the_common_head_and_the_context_for_a_round():
    algorithm = build("fedcp")
    common, head = algorithm.global_head.weight.clone(), algorithm.head.weight.clone()
    train(algorithm)
    assert torch.equal(algorithm.global_head.weight, common)
    assert not torch.equal(algorithm.head.weight, head)
    value, lane = algorithm.sums()["global_head.weight"]
    assert lane == "samples"
    assert torch.allclose(value, 0.5 * algorithm.head.weight + 0.5 * common)
    algorithm.begin_round([(X, Y)])
    before = algorithm.personal_share(algorithm.base(X).detach())
    assert before.shape == (30, 4)
    with torch.no_grad():
        algorithm.head.weight.add_(1.0)
    assert torch.allclose(algorithm.round_context_K, algorithm.context() - 2, atol=1e-5)
    assert not any("received" in key or "context" in key for key in algorithm.state_dict())


def test_the_loss_of_gpfl_is_its_three_terms():
    algorithm = build("gpfl", embedding_pull=0.3)
    algorithm.begin_round([(X[:10], Y[:10]), (X[10:], Y[10:])])
    assert algorithm.prior_C.tolist() == [0.25, 0.25]  # equation 7: shares ÷ number of labels
    table = algorithm.embedding.weight.detach().clone()
    with torch.no_grad():
        algorithm.embedding.weight.add_(torch.randn(2, 4, generator=torch.Generator().manual_seed(2)))
    x, y = X[:6], Y[:6]
    h = algorithm.base(algorithm.scaler(x))

    def valve(context):
        gamma, beta = algorithm.valve.gamma(context), algorithm.valve.beta(context)
        return functional.relu(h * (1 + gamma) + beta)

    personal, common = valve(sum(0.5 * row for row in table) / 2), valve(sum(table) / 2)
    angles = torch.stack(
        [functional.cosine_similarity(common, row[None], dim=1) for row in algorithm.embedding.weight], dim=1
    )
    squared = sum(float((common[b] - table[y[b]]).detach().square().sum()) for b in range(6))
    expected = (
        functional.cross_entropy(algorithm.head(personal), y)
        + functional.cross_entropy(angles, y)
        + 0.3 * math.sqrt(squared) * math.sqrt(10 / 6)
    )
    assert algorithm.loss(x, y).item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_magnitude_term_of_gpfl_moves_the_features_only_and_decay_the_table():
    algorithm = build("gpfl", embedding_pull=1.0, embedding_decay=0.2)
    algorithm.begin_round([(X, Y)])
    grads = []
    for pull in (0.0, 1.0):
        algorithm.hyper_parameters = {**algorithm.hyper_parameters, "embedding_pull": pull}
        algorithm.zero_grad()
        algorithm.loss(X, Y).backward()
        grads.append({name: p.grad.clone() for name, p in algorithm.named_parameters()})
    assert torch.allclose(grads[0]["embedding.weight"], grads[1]["embedding.weight"], atol=1e-7)
    assert any(not torch.allclose(grads[0][n], grads[1][n]) for n in grads[0] if n.startswith("base."))
    model, common = algorithm.param_groups(TRAIN)
    assert "weight_decay" not in model
    assert common["weight_decay"] == 0.2


def test_gpfl_takes_its_contexts_from_the_table_that_arrived():
    algorithm = train(build("gpfl"))
    aggregate = other_aggregate(algorithm)
    algorithm.receive(TRAIN, aggregate)
    assert torch.equal(algorithm.table(), aggregate["embedding.weight"])
    algorithm.begin_round([(X, Y)])
    assert torch.equal(algorithm.table(), aggregate["embedding.weight"])


def test_the_mixture_of_fedala_descends_along_autograd():
    algorithm = train(build("fedala", mixing_rate=0.7))
    algorithm.receive(TRAIN, other_aggregate(algorithm))
    own = {key: value.clone() for key, value in algorithm.own_head.state_dict().items()}
    common = {key: value.clone() for key, value in algorithm.head.state_dict().items()}
    assert not torch.equal(own["weight"], common["weight"])
    h = algorithm.base(algorithm.scaler(X)).detach()
    mix_CK, mix_C = torch.full((2, 4), 0.6, requires_grad=True), torch.full((2,), 0.6, requires_grad=True)
    with torch.no_grad():
        algorithm.mix_CK.fill_(0.6)
        algorithm.mix_C.fill_(0.6)
    weight = own["weight"] + (common["weight"] - own["weight"]) * mix_CK
    bias = own["bias"] + (common["bias"] - own["bias"]) * mix_C
    loss = functional.cross_entropy(functional.linear(h, weight, bias), Y)
    loss.backward()
    assert algorithm.mixture_step(h, Y) == pytest.approx(float(loss.detach()))
    assert torch.allclose(algorithm.mix_CK, (0.6 - 0.7 * mix_CK.grad).clamp(0, 1), atol=1e-6)
    assert torch.allclose(algorithm.mix_C, (0.6 - 0.7 * mix_C.grad).clamp(0, 1), atol=1e-6)


def test_fedala_starts_a_round_from_the_mixture_and_answers_with_it():
    algorithm = train(build("fedala", mixing_rate=50.0, mixing_share=0.5))
    algorithm.receive(TRAIN, other_aggregate(algorithm))
    aggregated = algorithm.head.weight.clone()
    loads = []
    batches = [(X[i : i + 5], Y[i : i + 5]) for i in range(0, 30, 5)]
    algorithm.mixture_step = lambda h, y: (
        loads.append(len(y)) or type(algorithm).mixture_step(algorithm, h, y)
    )
    with torch.no_grad():
        algorithm.eval()
        before = algorithm(X)
        expected = functional.linear(algorithm.base(algorithm.scaler(X)), *algorithm.mixture())
        algorithm.train()
    assert torch.equal(before, expected)
    algorithm.begin_round(batches)
    assert len(loads) == 3 * 20 or len(loads) % 3 == 0  # every second batch of six, at most 20 passes
    assert len(loads) <= 3 * 20
    assert 0 <= float(algorithm.mix_CK.min()) < 1
    mixed = algorithm.own_head.weight + (aggregated - algorithm.own_head.weight) * algorithm.mix_CK
    assert torch.allclose(algorithm.head.weight, mixed, atol=1e-6)
    loads.clear()
    algorithm.begin_round(batches)
    assert len(loads) == 3  # learned before: one pass


@pytest.mark.parametrize("share", [0.05, 0.5, 0.8, 1.0])
def test_the_window_of_fedala_is_spread_and_never_empty(share):
    algorithm = train(build("fedala", mixing_share=share, mixing_passes=1))
    algorithm.receive(TRAIN, other_aggregate(algorithm))
    seen = []
    algorithm.mixture_step = lambda h, y: seen.append(len(y)) or 0.0
    algorithm.learn_mixture([(X[i : i + 3], Y[i : i + 3]) for i in range(0, 30, 3)])
    assert len(seen) == math.ceil(10 * share)


def sums_of(sites, previous):
    """Σ over sites of what FedProto sends, as the server gets it."""
    total = {"personal/prototypes_CK": np.zeros((3, 2)), "personal/owned_C": np.zeros(3)}
    for means_CK, has_C in sites:
        total["personal/prototypes_CK"] += means_CK * (has_C * (previous > 0))[:, None]
        total["personal/owned_C"] += has_C
    return Sums(total, dict.fromkeys(total, float(len(sites))))


def test_a_label_of_too_few_sites_has_no_prototype_and_no_site_sends_its_mean():
    """Label 0 is at four sites, 1 at three, 2 at two."""
    generator = np.random.default_rng(0)
    has = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=float)
    sites = [(generator.normal(size=(3, 2)), row) for row in has]
    previous = {}
    first = fold_prototypes(previous, sums_of(sites, np.zeros(3)))
    assert first["personal/owned_C"].tolist() == [0.5, 0.5, 0.0]
    assert not first["personal/prototypes_CK"].any()
    sums = sums_of(sites, first["personal/owned_C"])
    assert not sums.tensors["personal/prototypes_CK"][2].any()
    second = fold_prototypes(first, sums)
    assert second["personal/owned_C"].tolist() == [1.0, 1.0, 0.0]
    means = np.array([means_CK for means_CK, _ in sites])
    assert np.allclose(second["personal/prototypes_CK"][0], means[:, 0].mean(axis=0), atol=1e-6)
    assert np.allclose(second["personal/prototypes_CK"][1], means[:3, 1].mean(axis=0), atol=1e-6)
    lost = fold_prototypes(second, sums_of(sites[1:], second["personal/owned_C"]))
    assert lost["personal/owned_C"].tolist() == [1.0, 0.0, 0.0]
    assert not lost["personal/prototypes_CK"][1:].any()


def test_fedproto_sends_the_means_of_labels_it_has_enough_cases_of():
    algorithm = build("fedproto", prototype_cases=10)
    rare = torch.cat([torch.zeros(25), torch.ones(5)]).long()
    train_phase(algorithm, TRAIN, Cases(X, rare), seed=1, words=("a", TRAIN, 1))
    sums = algorithm.sums()
    assert sums["owned_C"][0].tolist() == [1.0, 0.0]
    assert sums["owned_C"][1] == sums["prototypes_CK"][1] == "one"
    assert not sums["prototypes_CK"][0].any()  # nobody has announced the label yet
    algorithm.owned_C.fill_(0.5)
    with torch.no_grad():
        mean_K = algorithm.base(algorithm.scaler(X[:25])).mean(dim=0)
    sent = algorithm.sums()["prototypes_CK"][0]
    assert torch.allclose(sent[0], mean_K, atol=1e-5)
    assert not sent[1].any()


def test_fedproto_answers_with_the_nearest_prototype_and_never_with_an_unknown_label():
    algorithm = train(build("fedproto")).eval()
    h = algorithm.base(algorithm.scaler(X))
    assert torch.equal(algorithm(X), algorithm.head(h))
    common = torch.randn(2, 4, generator=torch.Generator().manual_seed(6))
    algorithm.receive(TRAIN, {"prototypes_CK": common, "owned_C": torch.tensor([1.0, 0.5])})
    table = torch.stack([common[0], algorithm.own_CK[1]])
    assert torch.allclose(algorithm(X), -torch.cdist(h, table).square(), atol=1e-4)
    algorithm.own_cases_C[1] = 0
    assert (algorithm(X).argmax(dim=1) == 0).all()
    assert torch.isfinite(torch.softmax(algorithm(X).double(), dim=1)).all()


def test_the_pull_of_fedproto_is_the_mean_square_to_owned_prototypes():
    algorithm = build("fedproto", prototype_pull=2.0)
    common = torch.randn(2, 4, generator=torch.Generator().manual_seed(6))
    algorithm.receive(TRAIN, {"prototypes_CK": common, "owned_C": torch.tensor([1.0, 0.5])})
    h = algorithm.base(algorithm.scaler(X))
    pull = sum((h[b] - common[0]).square().sum().item() for b in range(30) if Y[b] == 0) / (30 * 4)
    expected = functional.cross_entropy(algorithm.head(h), Y).item() + 2.0 * pull
    assert algorithm.loss(X, Y).item() == pytest.approx(expected, abs=1e-5)


def test_running_variances_of_sites_add_up_to_that_of_all_cases():
    """Sites of equal batch statistics: mean of variances plus variance of means is the population's."""
    generator = torch.Generator().manual_seed(5)
    sites = [torch.randn(n, 3, generator=generator) * (s + 1) + 4 * s for s, n in enumerate((40, 25, 60))]
    total, weights = {}, {}
    for x in sites:
        layer = nn.BatchNorm1d(3)
        layer.running_mean.copy_(x.mean(dim=0))
        layer.running_var.copy_(x.var(dim=0, correction=0))
        model = SplitModel(nn.Sequential(layer), nn.Linear(3, 2), Scaler(3))
        algorithm = PersonalAlgorithm(model, {})
        for name, (value, lane) in algorithm.sums().items():
            assert lane == "samples"
            total[name] = total.get(name, 0) + value.detach().double().numpy() * len(x)
            weights[name] = weights.get(name, 0.0) + len(x)
    folded = fold_mean({}, Sums(total, weights))
    everything = torch.cat(sites)
    assert np.allclose(folded["base.0.running_mean"], everything.mean(dim=0), atol=1e-5)
    assert np.allclose(folded["base.0.running_var"], everything.var(dim=0, correction=0), rtol=1e-5)
    assert "base.0.num_batches_tracked" not in folded
