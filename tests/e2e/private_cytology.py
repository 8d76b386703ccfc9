"""The cytology study under differential privacy for each patient, and how good its models are."""

import re

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

from fl_jobs.aggregation import gather
from fl_jobs.evaluation import predict_probabilities
from fl_jobs.packaging.spec import PrivacySpec, RunSpec
from fl_jobs.server_session import ServerSession
from fl_jobs.simulate import with_tensors
from fl_jobs.site_session import SiteSession
from tests.e2e.cytology import run_spec, write_site_data


def published_scaling() -> tuple[tuple[float, float], ...]:
    """Centre and spread of the columns from the table of minima and maxima that scikit-learn publishes.

    For this public data set that is public knowledge; a study's own constants come from the literature or
    from devices' ranges, never from the sites' patients.
    """
    found = re.findall(
        r"\((?:mean|standard error|worst)\):\s+([\d.]+)\s+([\d.]+)", load_breast_cancer().DESCR
    )
    return tuple(((float(low) + float(high)) / 2, (float(high) - float(low)) / 4) for low, high in found)


def private_spec(
    *, rounds: int, noise: float, rate: float, epsilon_max: float, learning_rate: float
) -> RunSpec:
    plain = run_spec(rounds=rounds, algorithm="fedavg", min_sites=3, masked=True)
    privacy = PrivacySpec(
        unit="record",
        noise_multiplier=noise,
        clip_norm=1.0,
        sample_rate=rate,
        epsilon_max=epsilon_max,
        scaling=published_scaling(),
    )
    settings = plain.hyper_parameters | {"learning_rate": learning_rate}
    policy = plain.policy.model_copy(update={"privacy": privacy})
    return with_tensors(plain.model_copy(update={"policy": policy, "hyper_parameters": settings}))


def run(spec: RunSpec, root, sites: int) -> tuple[dict[str, float], dict[str, SiteSession]]:
    """Accuracy of each arm on all sites' test parts together, measured here: no site lets it out."""
    sessions = {}
    for index in range(sites):
        home = root / f"site-{index}"
        write_site_data(home, index, sites)
        sessions[home.name] = SiteSession(
            spec, run_id="run", site=home.name, site_home=home, share_site_metrics=True
        )
    server = ServerSession(spec)
    while (order := server.next_order()) is not None:
        last = order if order.name == "finish" else None
        answers = {name: session.execute(order) for name, session in sessions.items()}
        server.fold(order, gather(order, spec, answers))
    right: dict[str, list[bool]] = {arm: [] for arm in spec.arms()}
    for session in sessions.values():
        test = session.part("test")
        for arm in spec.arms():
            algorithm = session.models.load(arm, last.tensors, spec.rounds).algorithm
            found = predict_probabilities(algorithm, torch.from_numpy(test.x)).argmax(axis=1)
            right[arm] += (found == test.y).tolist()
    return {arm: float(np.mean(values)) for arm, values in right.items()}, sessions
