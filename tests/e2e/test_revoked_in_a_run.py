"""A site's certificate is taken off the list in the middle of a real run, in the clear and under masks."""

import time
import warnings
from datetime import datetime

import pytest

from fl_jobs.flare.exchange import NOT_ALLOWED
from tests.e2e.cytology import run_spec, write_site_data
from tests.e2e.federation import Federation, admin_session, submit

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
VICTIM, OTHERS = "hospital-d", set(SITES[:3])
ROUNDS, EPOCHS, EFFECTIVE_S = 16, 20, 5.0  # a run of 15 s or more


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with Federation(tmp_path_factory.mktemp("revoked")) as made:
        for index, name in enumerate(SITES):
            made.add_site(name)
            write_site_data(made.site_home(name), index, len(SITES))
        made.start_server()
        made.start_sites()
        yield made
    assert made.leftover() == []


@pytest.fixture(scope="module")
def session(federation):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with admin_session(federation, "runs") as session:
            yield session


@pytest.mark.parametrize("masked", [False, True])
def test_it_contributes_nothing_more_and_the_others_finish(federation, session, masked):
    certificate = (federation.site_home(VICTIM) / "flare" / "startup" / "client.crt").read_bytes()
    run = submit(federation, session, run_spec(rounds=ROUNDS, epochs=EPOCHS, masked=masked), SITES)
    assert set(run.wait_for("round", 2)["sites"]) == set(SITES)
    federation.allowed.revoke(VICTIM)
    revoked = time.time()
    run.wait_for("finish", timeout_s=240)
    rounds = [line for line in run.lines if line["kind"] == "round"]
    assert [line["round"] for line in rounds] == list(range(1, ROUNDS + 1))
    late = [
        line for line in rounds if datetime.fromisoformat(line["time"]).timestamp() > revoked + EFFECTIVE_S
    ]
    assert late
    assert all(set(line["sites"]) == OTHERS for line in late)
    assert {line["refused"].get(VICTIM, NOT_ALLOWED) for line in late} == {NOT_ALLOWED}
    assert VICTIM in late[-1]["lost"]
    log = federation.server.log.read_text(errors="replace")
    assert log.count(f"of {VICTIM} is not allowed") >= 2  # the parent's connection and the job's
    run.wait_for_end()
    federation.allowed.add(VICTIM, certificate)
    with admin_session(federation, "ops") as ops:
        federation.wait_until_online(ops, SITES)
