import numpy as np
import pytest

from fl_jobs.aggregation import add_contributions, fold_mean
from fl_jobs.errors import AggregationError
from fl_jobs.messages import Contribution
from fl_jobs.packaging.spec import TensorSpec

DECLARED = {"global/w": TensorSpec(arm="global", phase="train", name="w", shape=(2,))}


def answer(values, cases=1.0, name="global/w"):
    tensors = {name: np.asarray(values, dtype=np.float32)}
    return Contribution(tensors, {"samples": cases, "one": 1.0}, {"sums": {}})


def test_the_mean_is_weighted_by_cases():
    sums = add_contributions(DECLARED, {"a": answer([1, 0], 30.0), "b": answer([0, 1], 10.0)})
    assert fold_mean({}, sums)["global/w"].tolist() == [0.75, 0.25]


def test_the_order_of_answers_does_not_matter():
    generator = np.random.default_rng(0)
    answers = {name: answer(generator.normal(size=2), 7.0) for name in "dbac"}
    backwards = dict(reversed(answers.items()))
    first = fold_mean({}, add_contributions(DECLARED, answers))["global/w"]
    assert np.array_equal(first, fold_mean({}, add_contributions(DECLARED, backwards))["global/w"])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (answer([1, 2], name="global/secret"), "does not share"),
        (Contribution({}, {"samples": 1.0}, {}), "did not send “global/w”"),
        (answer([1, 2, 3]), "of shape"),
        (answer([1, np.nan]), "not finite"),
        (Contribution(answer([1, 2]).tensors, {"samples": 0.0}, {}), "no usable weight"),
        (Contribution(answer([1, 2]).tensors, {"samples": float("nan")}, {}), "no usable weight"),
    ],
)
def test_an_update_that_was_not_declared_names_its_site(bad, words):
    with pytest.raises(AggregationError, match=f"Site mallory.*{words}"):
        add_contributions(DECLARED, {"ann": answer([1, 2]), "mallory": bad})


def test_no_answer_at_all_is_an_error():
    with pytest.raises(AggregationError, match="No site answered"):
        add_contributions(DECLARED, {})
