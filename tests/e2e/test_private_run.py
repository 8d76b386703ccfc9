"""A real NVFlare run under masks and differential privacy for each patient."""

import json
import warnings

import pytest

from fl_jobs.flare.journal import JOURNAL
from fl_jobs.privacy.accountant import epsilon
from fl_jobs.privacy.ledger import FILE
from fl_jobs.privacy.rules import planned_releases
from tests.approvals import STANDING, write_policy
from tests.e2e.cytology import write_site_data
from tests.e2e.federation import Federation, admin_session, submit
from tests.e2e.private_cytology import private_spec

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SITES = ("hospital-a", "hospital-b", "hospital-c")
SPEC = {"rounds": 2, "noise": 2.0, "rate": 0.25, "epsilon_max": 3.0, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with Federation(tmp_path_factory.mktemp("private")) as made:
        for index, name in enumerate(SITES):
            made.add_site(name)
            write_site_data(made.site_home(name), index, len(SITES))
        made.start_server()
        made.start_sites()
        yield made


def charged(federation, name):
    entries = json.loads((federation.site_home(name) / FILE).read_bytes())["entries"]
    return {entry["run"]: entry["count"] for entry in entries}


def test_a_private_run_is_charged_at_each_site_and_a_budget_stops_the_next(federation):
    spec = private_spec(**SPEC)
    planned = planned_releases(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with admin_session(federation, "runs") as session:
            first = submit(federation, session, spec, SITES)
            finish = first.wait_for("finish")
            first.wait_for_end()
            assert set(finish["chosen"].values()) == {spec.rounds}
            assert finish["cohort"] == {}
            assert all(finish["sites"][name]["rows"] is None for name in SITES)
            assert first.wait_for("round", 2)["validated"]["cohort"] == {}
            counts = [charged(federation, name) for name in SITES]
            assert counts == [{first.run_id: sum(each.count for each in planned)}] * 3

            budget = f"[privacy]\nepsilon = {1.2 * epsilon(planned, 1e-5)}\ndelta = 1e-5\n"
            write_policy(federation.site_home("hospital-b"), STANDING + budget)
            second = submit(federation, session, spec.model_copy(update={"seed": 8}), SITES)
            second.wait_for_end(timeout_s=150)
            lines = (second.folder / JOURNAL).read_text(encoding="utf-8")
            assert "privacy budget for" in lines
            assert '"kind": "round"' not in lines
            assert charged(federation, "hospital-b") == counts[1]
