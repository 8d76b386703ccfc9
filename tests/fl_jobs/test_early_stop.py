"""A run ends when no arm gets better on validation, and goes on rightly after a crash at its end."""

import pytest

from fl_jobs.server_session import ServerSession
from fl_jobs.simulate import run_in_process
from tests.fl_jobs.driving import drive, open_sites
from tests.fl_jobs.sites import make_spec, tabular_homes


@pytest.fixture
def early(tmp_path):
    """A run that cannot get better after its first rounds: it ends long before its thirty."""
    spec = make_spec("fedavg", rounds=30, patience=3, learning_rate=0.05)
    return spec, tabular_homes(tmp_path)


def test_training_ends_early_when_nothing_gets_better(early):
    spec, homes = early
    records = run_in_process(spec, homes)
    rounds = [record["round"] for record in records if record["kind"] == "round"]
    assert rounds == list(range(1, len(rounds) + 1))
    assert len(rounds) < 30
    assert [record["kind"] for record in records[-2:]] == ["validate", "finish"]
    best = max(records[-1]["chosen"].values())
    assert len(rounds) - 1 - best >= 3


def test_an_early_end_is_the_same_after_a_resume(early):
    spec, homes = early
    sites = open_sites(spec, homes)
    records, commits = drive(ServerSession(spec), sites)
    last = max(commits)
    for cut in ("validate", "finish"):
        before = records[: [record["kind"] for record in records].index(cut)]
        server = ServerSession(
            spec, start_round=last + 1, previous=commits[last], records=before, load_round=commits.__getitem__
        )
        assert server.next_order().name == cut
    server = ServerSession(
        spec, start_round=last + 1, previous=commits[last], records=records, load_round=commits.__getitem__
    )
    assert server.next_order() is None
