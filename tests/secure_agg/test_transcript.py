"""The known transcript: a version that makes other bytes could not take part in one round with this one."""

import json

import numpy as np
import pytest

from tests.secure_agg import transcript

KNOWN = json.loads(transcript.FILE.read_text(encoding="utf-8"))
ROUNDS = {"ring32_early_dropout": (0, 1, 2), "ring64_late_dropout": (0, 1, 2, 3)}


@pytest.fixture(scope="module")
def found():
    return transcript.record(KNOWN["identities"])


@pytest.mark.parametrize("part", sorted(KNOWN["messages"].keys() - ROUNDS.keys()))
def test_keys_of_the_epoch(found, part):
    assert found[part] == KNOWN["messages"][part]


@pytest.mark.parametrize("part", ROUNDS)
def test_every_message_of_a_round(found, part):
    assert found[part].keys() == KNOWN["messages"][part].keys()
    for step, known in KNOWN["messages"][part].items():
        assert found[part][step] == known, step


@pytest.mark.parametrize(("part", "sites"), ROUNDS.items())
def test_the_sums_are_those_of_the_inputs(part, sites):
    sums = KNOWN["messages"][part]["sums"]
    wanted = sum((100 + site) * transcript.weights_of(site).astype(np.float64) for site in sites)
    bound = 2.0**-27 * len(sites) * 1024 if part.startswith("ring32") else 2.0**-41 * sums["total weight"]
    assert np.abs(np.array(sums["layer"]) - wanted.ravel()).max() <= bound
    assert sums["total weight"] == sum(100 + site for site in sites)
    assert sums["bias"] == pytest.approx([-0.25 * sum(sites)])
    assert sums["loss"] == pytest.approx(0.125 * sum(sites))


def test_recovery_and_the_normal_path_are_both_in_it():
    messages = KNOWN["messages"]
    assert messages["ring32_early_dropout"]["recoveries"] == {}
    assert len(messages["ring64_late_dropout"]["recoveries"]) == 3
