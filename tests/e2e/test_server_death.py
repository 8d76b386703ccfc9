"""The server's machine dies in the middle of a run: no committed round is lost, the run is resumed."""

import json
import time

import pytest
from nvflare.fuel.flare_api.api_spec import InternalError, NoConnection
from nvflare.fuel.flare_api.flare_api import new_secure_session

from fl_jobs.packaging.job import write_job
from platform_web.federation.flare_gateway import RUNS, FlareGateway
from tests.e2e.cytology import run_spec, write_site_data
from tests.e2e.federation import Federation, admin_session, submit

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SITES = ("hospital-a", "hospital-b")
RUN_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


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


def submit_once_connected(session, folder):
    """The cell of an old session finds the new server by itself, after some seconds."""
    for _ in range(60):
        try:
            session.submit_job(str(folder), submit_token="first")
        except NoConnection:
            time.sleep(1)


def test_a_restarted_server_takes_a_run_although_it_forgot_the_portals_session(tmp_path, monkeypatch):
    """NVFlare 2.9 makes a session anew for a command, but not for a job that is handed over."""
    with Federation(tmp_path) as federation:
        for name in SITES:
            federation.add_site(name)
        federation.start_server()
        folder = tmp_path / "job"
        write_job(
            folder, run_spec(rounds=1), run_id=RUN_ID, epoch=1, start_round=1, sites=SITES, asked_by="test"
        )
        kit = str(federation.admin_folder("runs"))
        gateway = FlareGateway()

        def open_session(identity):
            gateway._sessions[identity] = new_secure_session(username="runs", startup_kit_location=kit)
            return gateway._sessions[identity]

        monkeypatch.setattr(gateway, "_open", open_session)
        monkeypatch.setattr("platform_web.federation.places.home", lambda: tmp_path)
        old = open_session(RUNS)
        try:
            federation.kill(federation.server)
            federation.start_server()
            with pytest.raises(InternalError, match="AssertionError"):
                submit_once_connected(old, folder)
            assert gateway.submit(folder, "second")
        finally:
            gateway.close()  # or its threads hold the process
