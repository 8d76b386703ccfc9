"""Small federations on real patients, with or without something wrong at the first site; trained in memory.

Sites are drawn from one pool of patients (heart disease of four hospitals where ``CONSILIUM_DATA`` has it,
else the cytology in scikit-learn), so they are exchangeable until something is injected, and the true
difference of two models is known: it is measured on the whole test pool. Training is the product's own loop
and fold.
Suffixes: N = case, F = feature.
"""

import csv
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fl_jobs.aggregation import fold_mean
from fl_jobs.algorithms.base import TRAIN, PersonalAlgorithm
from fl_jobs.algorithms.build import build_algorithm
from fl_jobs.benefit import Answers, Difference, answers_of, compare_arms, propose
from fl_jobs.choosing import choose, gains
from fl_jobs.evaluation import measure, predict_probabilities
from fl_jobs.messages import Sums, TensorMap
from fl_jobs.packaging.spec import AnalysisSpec, ModelSpec, RunSpec, StudySpec, TaskSpec
from fl_jobs.site_session.arms import to_numpy, to_torch
from fl_jobs.training import Cases, train_phase

HEART = "fed_heart_disease_uci_4hospitals.csv"
SIZES = {"train": 80, "validation": 80, "test": 400}
SITES, ROUNDS = 4, 3
Floats, Labels = NDArray[np.float32], NDArray[np.int64]
Part = tuple[Floats, Labels]
KINDS = ("label noise", "own convention", "prior shift", "feature shift")


@dataclass(frozen=True)
class Harm:
    """What is wrong at the first site. ``share`` (0 to 0.5) is how much of it.

    "label noise": that share of its labels is turned round at random, in all parts. "own convention": that
    share of its cases, along a fixed direction of the features, is labelled the other way round. "prior
    shift": the disease is as common as 0.5 + 0.8 × share. "feature shift": that share of the features is
    measured with the opposite sign.
    """

    kind: str
    share: float


@dataclass(frozen=True)
class SiteOutcome:
    """The rule's word on one site, and the truth on the whole test pool, by arm."""

    differences: dict[str, Difference]
    proposal: str
    true_gain: dict[str, float]


@functools.cache
def patients() -> Part:
    """Standardised features and labels of all patients of the pool."""
    path = Path(os.environ.get("CONSILIUM_DATA", "")) / HEART
    if os.environ.get("CONSILIUM_DATA") and path.exists():
        with path.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        names = [name for name in rows[0] if name not in ("hospital", "num")]
        x_NF = np.array([[float(row[name] or "nan") for name in names] for row in rows])
        y_N = np.array([float(row["num"]) > 0 for row in rows])
        x_NF = np.where(np.isnan(x_NF), np.nanmedian(x_NF, axis=0), x_NF)
    else:
        from sklearn.datasets import load_breast_cancer

        x_NF, y_N = load_breast_cancer(return_X_y=True)
    x_NF = (x_NF - x_NF.mean(axis=0)) / x_NF.std(axis=0)
    return x_NF.astype(np.float32), y_N.astype(np.int64)


def run_federation(seed: int, harm: Harm | None = None, *, null: bool = False) -> list[SiteOutcome]:
    """Train one federation and judge ``global`` against local-only at every site; repeatable by ``seed``.

    ``null`` gives every case of every site a label by the toss of a coin: then no arm is better than another.
    """
    generator = np.random.default_rng([seed, 20])
    x_NF, y_N = patients()
    order = generator.permutation(len(y_N))
    pools = {"train": order[: len(y_N) // 2], "test": order[len(y_N) // 2 :]}
    pools["validation"] = pools["train"]
    parts = [
        {
            name: _draw(
                x_NF[pools[name]], y_N[pools[name]], size, harm if not site else None, generator, null=null
            )
            for name, size in SIZES.items()
        }
        for site in range(SITES)
    ]
    spec = _spec(seed, x_NF.shape[1])
    arms = train_arms(spec, [part["train"] for part in parts])
    truth_x, truth_y = x_NF[pools["test"]], y_N[pools["test"]]
    return [
        _judge(spec, arms[site], parts[site], _moved(truth_x, truth_y, harm if not site else None), null=null)
        for site in range(SITES)
    ]


def train_arms(spec: RunSpec, sites: list[Part]) -> list[dict[str, PersonalAlgorithm]]:
    """The three arms of a run of FedAvg at each site after its rounds."""
    torch.set_num_threads(1)
    cases = [Cases(torch.from_numpy(x), torch.from_numpy(y)) for x, y in sites]
    arms = [{arm: _fresh(spec, arm, c) for arm in ("local", "global", "tuned")} for c in cases]
    aggregate: TensorMap = {}
    for number in range(1, ROUNDS + 1):
        totals: list[tuple[TensorMap, int]] = []
        for site, own in enumerate(arms):
            _train(spec, own["local"], cases[site], site, number)
            if aggregate:
                own["global"].receive(TRAIN, to_torch(aggregate))
            _train(spec, own["global"], cases[site], site, number)
            own["global"].phase = TRAIN
            values = {name: value for name, (value, _lane) in own["global"].sums().items()}
            totals.append((to_numpy(values), len(cases[site].y)))
        names, weight = totals[0][0].keys(), float(sum(n for _, n in totals))
        sums = {name: sum(np.float64(n) * tensors[name] for tensors, n in totals) for name in names}
        aggregate = fold_mean({}, Sums(sums, dict.fromkeys(names, weight)))
    for site, own in enumerate(arms):
        for arm in ("global", "tuned"):
            own[arm].receive(TRAIN, to_torch(aggregate))
        _train(spec, own["tuned"], cases[site], site, ROUNDS + 1)
    return arms


def _spec(seed: int, features: int) -> RunSpec:
    names = tuple(f"f{number}" for number in range(features))
    task = TaskSpec(kind="tabular", labels=("healthy", "ill"), features=names)
    return RunSpec(
        study=StudySpec(slug="harm", purpose="bench", dataset="cases", task=task),
        algorithm="fedavg",
        hyper_parameters={"learning_rate": 0.02, "batch_size": 40, "local_epochs": 3},
        model=ModelSpec(name="tabular_mlp", arguments={"hidden": 16, "feature_dim": 8}),
        rounds=ROUNDS,
        seed=seed,
        min_sites=3,
        analysis=AnalysisSpec(draws=1000, swaps=1999),
    )


def _fresh(spec: RunSpec, arm: str, cases: Cases) -> PersonalAlgorithm:
    algorithm = build_algorithm(spec, "local" if arm == "local" else "global")
    algorithm.scaler.fit(cases.x)
    return algorithm


def _train(spec: RunSpec, algorithm: PersonalAlgorithm, cases: Cases, site: int, number: int) -> None:
    train_phase(algorithm, TRAIN, cases, seed=spec.seed, words=(f"site{site}", TRAIN, number))


def _draw(
    x_NF: Floats, y_N: Labels, size: int, harm: Harm | None, generator: np.random.Generator, *, null: bool
) -> Part:
    """``size`` patients with replacement, half of them ill unless the harm says otherwise."""
    share = 0.5 + (0.8 * harm.share if harm and harm.kind == "prior shift" else 0.0)
    ill = round(size * share)
    rows = np.concatenate(
        [generator.choice(np.flatnonzero(y_N == c), n) for c, n in ((0, size - ill), (1, ill))]
    )
    x_NF, y_N = _moved(x_NF[rows], y_N[rows], harm)
    if null:
        return x_NF, generator.permutation(np.arange(size) % 2)
    if harm and harm.kind == "label noise":
        y_N = y_N ^ (generator.random(size) < harm.share)
    return x_NF, y_N


def _moved(x_NF: Floats, y_N: Labels, harm: Harm | None) -> Part:
    """What is the site's own way of measuring and naming; chance and how common things are left aside."""
    fixed = np.random.default_rng(3)
    if harm and harm.kind == "feature shift":
        turned = fixed.permutation(x_NF.shape[1])[: round(harm.share * x_NF.shape[1])]
        signs_F = np.ones(x_NF.shape[1], dtype=np.float32)
        signs_F[turned] = -1
        return x_NF * signs_F, y_N
    if harm and harm.kind == "own convention":
        along_N = patients()[0] @ (direction_F := fixed.normal(size=x_NF.shape[1]).astype(np.float32))
        return x_NF, y_N ^ (x_NF @ direction_F > np.quantile(along_N, 1 - harm.share))
    return x_NF, y_N


def _judge(
    spec: RunSpec, arms: dict[str, PersonalAlgorithm], parts: dict[str, Part], pool: Part, *, null: bool
) -> SiteOutcome:
    analysis, labels = spec.analysis, spec.study.task.labels
    validated, tested = (_answers(arms, *parts[name]) for name in ("validation", "test"))
    differences = {
        arm: compare_arms(tested, arm, labels, analysis, seed=spec.seed) for arm in ("global", "tuned")
    }
    proposal = propose(choose(gains(validated, analysis.endpoint)), differences)
    reached = {
        arm: measure(predict_probabilities(a, torch.from_numpy(pool[0])), pool[1])["balanced_accuracy"]
        for arm, a in arms.items()
    }
    true = {arm: 0.0 if null else float(value) - float(reached["local"]) for arm, value in reached.items()}
    return SiteOutcome(differences, proposal, true)


def _answers(arms: dict[str, PersonalAlgorithm], x_NF: Floats, y_N: Labels) -> Answers:
    predicted = {
        arm: predict_probabilities(a, torch.from_numpy(x_NF)).argmax(axis=1).astype(np.int64)
        for arm, a in arms.items()
    }
    return answers_of(y_N, predicted, np.arange(len(y_N)).astype(str), 2)
