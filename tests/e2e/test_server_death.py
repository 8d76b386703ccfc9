"""The server's machine dies in the middle of a run: no committed round is lost, the run is resumed."""

import json

import pytest

from tests.e2e.cytology import run_spec, write_site_data
from tests.e2e.federation import Federation, admin_session, submit

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SITES = ("hospital-a", "hospital-b")


def test_a_run_goes_on_from_its_last_committed_round_after_the_server_died(tmp_path):
    with Federation(tmp_path) as federation:
        for index, name in enumerate(SITES):
            federation.add_site(name)
            write_site_data(federation.site_home(name), index, len(SITES))
        federation.start_server()
        federation.start_sites()
        spec = run_spec(rounds=4, epochs=10)
        with admin_session(federation, "runs") as session:
            first = submit(federation, session, spec, SITES)
            first.wait_for("round", 1)
            federation.kill(federation.server)
        committed = [json.loads(line) for line in (first.folder / "journal.jsonl").read_text().splitlines()]
        last = max(line["round"] for line in committed if line["kind"] == "round")

        federation.start_server()
        with admin_session(federation, "runs") as session:
            assert session.get_job_status(first.job_id) == "FINISHED:ABANDONED"
            federation.wait_until_online(session, SITES)
            second = submit(
                federation, session, spec, SITES, run_id=first.run_id, epoch=2, start_round=last + 1
            )
            second.wait_for("finish")
    assert second.lines[: len(committed)] == committed
    rounds = [(line["round"], line["epoch"]) for line in second.lines if line["kind"] == "round"]
    assert rounds == [(number, 1 if number <= last else 2) for number in range(1, 5)]
    assert federation.leftover() == []
