"""Steps against naive code: what holds a model at another, and what a short batch counts."""

import pytest
import torch

from fl_jobs.algorithms.base import TRAIN, Stage
from fl_jobs.training import order_of
from tests.fl_jobs.test_formulas import X, Y, build, other_aggregate, train


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("name", "setting", "own"), [("fedprox", "prox_pull", ""), ("ditto", "own_pull", "own_")]
)
def test_a_pull_is_half_the_square_of_the_distance_to_what_was_received(name, setting, own, optimiser):
    given = {"optimiser": optimiser, "learning_rate": 0.05, "batch_size": 30, "local_epochs": 3}
    algorithm = build(name, **{setting: 0.7}, **given)
    naive = build("fedavg", **given)
    if own:  # a site that has been there before: its own model is not where the common one is
        algorithm.receive(TRAIN, algorithm.shared_state())
        algorithm.joined_1.fill_(1.0)
        algorithm.load_shared(other_aggregate(algorithm))
    start = {key: value.clone() for key, value in algorithm.state_dict().items()}
    naive.load_state_dict({key: start.get(own + key, start[key]) for key in naive.state_dict()})
    towards = [start[key] for key, _ in naive.named_parameters()]
    torch_optimiser = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]
    steps = torch_optimiser(naive.parameters(), lr=0.05)
    for _ in range(3):
        distance = sum(
            (now - then).square().sum() for now, then in zip(naive.parameters(), towards, strict=True)
        )
        steps.zero_grad()
        (naive.loss(X, Y) + 0.7 / 2 * distance).backward()
        steps.step()
    train(algorithm)
    for key, value in naive.named_parameters():
        assert torch.allclose(algorithm.state_dict()[own + key], value, atol=2e-6), key


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_short_batch_counts_by_its_share_of_a_full_one(optimiser):
    given = {"optimiser": optimiser, "learning_rate": 0.05, "batch_size": 29, "local_epochs": 1}
    algorithm, naive = build("fedavg", **given), build("fedavg", **given)
    order = torch.randperm(30, generator=order_of(Stage(TRAIN), TRAIN, 1, ("a", TRAIN, 0)))
    steps = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser](naive.parameters(), lr=0.05)
    for rows, share in ((order[:29], 1), (order[29:], 1 / 29)):
        steps.zero_grad()
        (share * naive.loss(X[rows], Y[rows])).backward()
        steps.step()
    train(algorithm)
    for key, value in naive.named_parameters():
        assert torch.allclose(algorithm.state_dict()[key], value, atol=2e-6), key
