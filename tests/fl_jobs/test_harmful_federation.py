"""The bench of harmful federations itself: its data, its truth, and choosing by folds on it."""

import numpy as np
import pytest

from fl_jobs.benefit import answers_of
from fl_jobs.choosing import choose_by_folds, fold_of_groups
from fl_jobs.evaluation import predict_probabilities
from tests.bench import harmful_federation as bench
from tests.bench import small_federations as small
from tests.bench.small_federations import Harm, run_federation


def test_a_federation_is_repeatable():
    assert run_federation(3) == run_federation(3)


def test_turned_features_harm_the_site_that_has_them_and_it_keeps_local_only():
    first, *others = run_federation(1, Harm("feature shift", 0.5))
    assert first.true_gain["global"] < -0.03
    assert first.differences["global"].verdict == "harms"
    assert first.proposal == "local"
    assert all(site.true_gain["global"] > first.true_gain["global"] for site in others)


def test_labels_by_coin_are_balanced_and_promise_nothing():
    for site in run_federation(5, null=True):
        assert site.true_gain == {"local": 0.0, "global": 0.0, "tuned": 0.0}
        assert site.differences["global"].groups == {"healthy": 200, "ill": 200}


@pytest.mark.parametrize("kind", small.KINDS)
def test_each_harm_changes_as_much_as_it_says(kind):
    x, y = small.patients()
    moved_x, moved_y = small._moved(x, y, Harm(kind, 0.3))
    turned = (moved_x != x).any(axis=0).mean()
    assert turned == pytest.approx(0.3 if kind == "feature shift" else 0.0, abs=0.05)
    assert (moved_y != y).mean() == pytest.approx(0.3 if kind == "own convention" else 0.0, abs=0.02)
    drawn = small._draw(x, y, 2000, Harm(kind, 0.3), np.random.default_rng(0), null=False)[1]
    ill = {"prior shift": 0.74}.get(kind, 0.5)
    if kind != "own convention":
        assert drawn.mean() == pytest.approx(ill, abs=0.03)


def test_a_claim_fails_when_its_bound_is_passed_or_nothing_was_measured():
    assert bench._at_most("x", [False] * 19 + [True], 0.05).passed
    assert not bench._at_most("x", [False] * 18 + [True] * 2, 0.05).passed
    assert not bench._at_most("x", [], 0.05).passed


@pytest.mark.parametrize(
    ("harm", "careless", "arms"),
    [(Harm("feature shift", 0.5), 0.0, {"local"}), (None, 0.4, {"global", "tuned"})],
)
def test_choosing_by_folds_retrains_the_federation_for_each_fold(harm, careless, arms):
    """The first site measures otherwise than the rest, or a part of its training labels is wrong."""
    generator = np.random.default_rng(11)
    x, y = small.patients()
    sites = [small._draw(x, y, 200, harm if not n else None, generator, null=False) for n in range(4)]
    own_x, own_y = sites[0]
    names = np.array([f"p{n}" for n in range(len(own_y))])
    fold = fold_of_groups(names.tolist(), own_y.tolist(), 3, seed=1)
    folds = []
    for number in range(3):
        kept, out = fold != number, fold == number
        noted = own_y[kept] ^ (generator.random(kept.sum()) < careless)
        trained = small.train_arms(small._spec(1, x.shape[1]), [(own_x[kept], noted), *sites[1:]])[0]
        predicted = {
            arm: predict_probabilities(model, small.torch.from_numpy(own_x[out])).argmax(axis=1)
            for arm, model in trained.items()
        }
        folds.append(answers_of(own_y[out], predicted, names[out], 2))
    assert choose_by_folds(folds, "balanced_accuracy") in arms
