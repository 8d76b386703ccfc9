import pytest

from platform_web.federation.errors import FlareRefusedError
from platform_web.federation.flare_gateway import END_TOPIC, RUNS, FlareGateway


class Session:
    """An admin session whose job answers ``answer``."""

    def __init__(self, answer):
        self.answer, self.commands = answer, []

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
