"""Runs with differential privacy for tests: small sites, with public scaling."""

from fl_jobs.catalog import ALGORITHMS
from fl_jobs.packaging.spec import PrivacySpec
from fl_jobs.privacy.accountant import epsilon
from fl_jobs.privacy.rules import planned_releases
from fl_jobs.server_session import ServerSession
from fl_jobs.simulate import with_tensors
from tests.fl_jobs.sites import FEATURES, TABULAR, make_spec

SCALING = ((0.0, 1.0),) * len(FEATURES)
RECORD = {
    "unit": "record",
    "noise_multiplier": 1.0,
    "clip_norm": 1.0,
    "sample_rate": 0.25,
    "epsilon_max": 50.0,
}
SITE = {"unit": "site", "noise_multiplier": 2.0, "clip_norm": 1.0, "epsilon_max": 50.0}


def private_spec(
    algorithm="fedavg", task=TABULAR, *, masked=False, privacy=RECORD, rounds=2, tensors=True, **settings
):
    plain = make_spec(algorithm, task, rounds=rounds, masked=masked, **settings)
    scaled = privacy["unit"] == "record" and task.kind == "tabular"
    asked = PrivacySpec(**{"scaling": SCALING if scaled else (), **privacy})
    policy = plain.policy.model_copy(update={"privacy": asked})
    spec = plain.model_copy(update={"policy": policy, "tensors": ()})
    return with_tensors(spec) if tensors else spec


def names(unit):
    return sorted(name for name, entry in ALGORITHMS.items() if entry.dp == unit)


def first_order(spec):
    return ServerSession(spec).next_order()


def spent(spec):
    return epsilon(planned_releases(spec), spec.policy.privacy.delta)
