"""What the portal says of its own stored log, as the operator reads it: in the status and from the doctor."""

import pytest

from site_kits.agent.doctor import witness
from site_kits.agent.doctor.examination import Patient
from site_kits.agent.recounting import LATE_S, portals_own_check
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, write_state

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"checked": NOW - 30, "findings": 0}, None),
        ({"checked": NOW - int(LATE_S), "findings": 0}, None),
        ({"checked": NOW - int(LATE_S) - 1, "findings": 0}, "has not checked its stored log since"),
        ({"checked": NOW - 30, "findings": 3}, "3 pieces of its stored log are not as they were signed"),
        ({"checked": 0, "findings": 1}, "last seen 1970-01-01"),
        (None, None),  # a former version, or one just set up
        ({"checked": "now", "findings": 0}, "not of this version"),
        ({"checked": 1 << 60, "findings": 0}, "not of this version"),
        ({}, "not of this version"),
    ],
)
def test_a_sentence_for_what_needs_somebody(said, sentence):
    told = portals_own_check(said, NOW)
    assert told is None if sentence is None else sentence in told


def test_the_doctor_repeats_it(tmp_path):
    home = SiteHome(tmp_path)
    home.state.mkdir()
    witness.log(Patient(home))
    write_state(home.status_json, {"problems": {"portal's check": "THE PORTAL ITSELF SAYS so."}})
    with pytest.raises(AgentError, match="ITSELF SAYS"):
        witness.log(Patient(home))
