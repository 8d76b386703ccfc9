# ruff: noqa: F811 - pytest takes fixtures by the name of the argument
"""The start of a run is an entry of the site's own log before a row is read; without it there is no start."""

import pytest

from fl_jobs.approval import site_log
from fl_jobs.flare import executor as door
from tests.fl_jobs.test_device import VARIABLE, executor, start  # noqa: F401 - a fixture
from tests.fl_jobs.test_site_log import entries


@pytest.fixture
def read(monkeypatch):
    """Counts how often data were read, with the acts that were in the log then."""
    seen = []
    session = door.SiteSession

    def watched(*arguments, **named):
        seen.append([entry["act"] for entry in entries(door.find_site_home())])
        return session(*arguments, **named)

    monkeypatch.setattr(door, "SiteSession", watched)
    return seen


def test_the_entry_is_there_before_data_are_read(executor, read):
    start(executor)
    assert executor._session is not None
    assert read == [["run.approved", "run.started"]]
    entry = entries(door.find_site_home())[-1]
    assert (entry["job"], entry["obj"]) == (executor._run_id, executor._run_digest)
    assert entry["data"] == {"epoch": 1, "masked": False}


def test_without_the_entry_the_run_does_not_start(executor, read, monkeypatch):
    def refuse(*_):
        raise site_log.LogUnavailableError("database or disk is full")

    monkeypatch.setattr(site_log, "open_log", refuse)
    start(executor)
    assert (executor._session, read) == (None, [])
    assert "(SiteLogError)" in executor._refusal


def test_a_run_that_cannot_start_is_said_with_its_reason(executor, monkeypatch):
    monkeypatch.setenv(VARIABLE, "no such device")
    start(executor)
    assert [one["act"] for one in entries(door.find_site_home())[1:]] == ["run.started", "run.start_refused"]
    assert entries(door.find_site_home())[-1]["data"] == {"epoch": 1, "reason": "DeviceError"}
