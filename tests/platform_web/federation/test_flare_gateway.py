from types import SimpleNamespace

import pytest
from nvflare.fuel.flare_api.api_spec import InternalError

from platform_web.federation.errors import FlareRefusedError
from platform_web.federation.flare_gateway import END_TOPIC, RUNS, FlareGateway


class Session:
    """An admin session whose job answers ``answer``."""

    def __init__(self, answer):
        self.answer, self.commands, self.closed = answer, [], False

    def close(self):
        self.closed = True

    def do_app_command(self, job_id, topic, data):
        self.commands.append((job_id, topic, data))
        return self.answer


def gateway_with(session):
    gateway = FlareGateway()
    gateway._sessions[RUNS] = session
    return gateway


def test_a_job_is_asked_to_end_with_the_reason():
    session = Session({"accepted": True})
    gateway_with(session).end_at_boundary("job-1", "site-d came back.")
    assert session.commands == [("job-1", END_TOPIC, {"reason": "site-d came back."})]


@pytest.mark.parametrize("answer", [None, {}, {"accepted": "yes"}, "yes"])
def test_a_job_that_does_not_know_this_is_a_refusal(answer):
    with pytest.raises(FlareRefusedError):
        gateway_with(Session(answer)).end_at_boundary("job-1", "x")


@pytest.mark.parametrize("answer", [None, {"lines": 3, "next": 1}, {"lines": []}])
def test_a_journal_that_is_none_is_a_refusal(answer):
    with pytest.raises(FlareRefusedError):
        gateway_with(Session(answer)).journal("job-1", 0)


class Restarted(Session):
    """A session the server has forgotten: NVFlare fails inside instead of saying so."""

    def get_job_status(self, job_id):
        self.commands.append(job_id)
        raise InternalError("Exception Occurred: AssertionError")


def test_a_server_that_forgot_the_session_is_asked_once_more_with_a_new_one(monkeypatch):
    old, new = Restarted(None), SimpleNamespace(get_job_status=lambda job_id: "RUNNING")
    gateway = gateway_with(old)
    monkeypatch.setattr(gateway, "_open", lambda identity: new)
    assert gateway.job_status("job-1") == "RUNNING"
    assert (old.commands, old.closed) == (["job-1"], True)


def test_a_server_that_fails_inside_again_is_a_refusal(monkeypatch):
    gateway = gateway_with(Restarted(None))
    monkeypatch.setattr(gateway, "_open", lambda identity: Restarted(None))
    with pytest.raises(FlareRefusedError, match="AssertionError"):
        gateway.job_status("job-1")
