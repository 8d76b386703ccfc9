"""Real cases: a federation of four sites learns under differential privacy for each patient."""

import pytest

from fl_jobs.privacy.accountant import epsilon
from fl_jobs.privacy.rules import planned_releases, statement
from tests.e2e.private_cytology import private_spec, run


def test_cytology_is_learnt_under_patient_privacy(tmp_path):
    spec = private_spec(rounds=10, noise=2.0, rate=0.25, epsilon_max=5.0, learning_rate=0.03)
    reached, sessions = run(spec, tmp_path, sites=4)
    print(statement(spec, 4), {arm: round(value, 3) for arm, value in reached.items()})
    assert reached["global"] >= 0.85  # the share of benign cases is 0.63
    planned = epsilon(planned_releases(spec), spec.policy.privacy.delta)
    assert planned <= 5.0
    for session in sessions.values():
        assert session.privacy.ledger.spent(spec.policy.privacy.delta) == pytest.approx(planned)
