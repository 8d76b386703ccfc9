# ruff: noqa: F811 - pytest takes fixtures by the name of the argument
"""The result filter asks the gate anew for every result, and writes down what it lets out."""

import pytest

from fl_jobs.approval.egress import read_lines
from fl_jobs.approval.refusals import read_refusals
from fl_jobs.errors import SharedStateError
from fl_jobs.flare import wire
from fl_jobs.flare.site_filter import SharedTensorFilter
from site_kits.agent.requests import decide
from site_kits.site_home import SiteHome
from tests.approvals import STANDING, approved_by_person, write_policy
from tests.fl_jobs.test_flare_outgoing import KEEPS, SPEC, place, result, site  # noqa: F401 - a fixture

CELLS = {"trained": {"global": {"train_loss": 0.4}}}


def test_a_policy_that_is_tightened_counts_at_once_and_a_looser_one_only_for_new_runs(site):
    with pytest.raises(SharedStateError, match="policy keeps"):
        SharedTensorFilter().process(result(CELLS), site.context)
    write_policy(site.home)
    with pytest.raises(SharedStateError, match="policy keeps"):
        SharedTensorFilter().process(result(CELLS), site.context)
    place(site.home, SPEC)
    SharedTensorFilter().process(result(CELLS), site.context)
    write_policy(site.home, KEEPS)
    with pytest.raises(SharedStateError, match="policy keeps"):
        SharedTensorFilter().process(result(CELLS), site.context)


def refused(site) -> str:
    """The sentence in place of a result that would have passed."""
    reply = SharedTensorFilter().process(result(), site.context)
    assert wire.TENSORS_KEY not in reply
    assert read_refusals(site.home)[-1]["sentence"] == reply[wire.ERROR_KEY]
    return reply[wire.ERROR_KEY]


def test_with_a_typo_in_the_policy_nothing_leaves(site):
    write_policy(site.home, STANDING + "[output]\nmax_round = 3\n")
    assert "output.max_round is no setting" in refused(site)
    (site.home / "policy.toml").unlink()
    assert "policy.toml is missing" in refused(site)


def test_a_rule_that_is_taken_back_takes_its_approvals_back_and_no_persons(site):
    run_id = place(site.home, SPEC)
    write_policy(site.home, KEEPS.replace("standing", "ask"))
    assert "approval.mode" in refused(site)
    approved_by_person(site.home, SPEC, run_id)
    SharedTensorFilter().process(result(), site.context)
    write_policy(site.home, '[algorithms]\ndeny = ["dbe"]\n')
    assert "algorithms" in refused(site)


def test_a_withdrawn_approval_stops_the_next_result(site):
    run_id = place(site.home, SPEC)
    decide(SiteHome(site.home), run_id, False, "The board objects.", "olaf")
    assert "has refused" in refused(site)


def test_what_leaves_is_metered(site):
    SharedTensorFilter().process(result(), site.context)
    (line,) = read_lines(site.home)
    assert (line.task, line.round, line.tensors, line.number_bytes) == ("train", 1, ("global/w",), 24)
    with pytest.raises(SharedStateError):
        SharedTensorFilter().process(result(CELLS), site.context)
    assert len(list(read_lines(site.home))) == 1


def test_a_meter_that_cannot_be_written_keeps_the_result(site):
    (site.home / "egress").write_text("in the way")
    with pytest.raises(OSError, match="egress"):
        SharedTensorFilter().process(result(), site.context)


def test_a_job_that_was_changed_after_its_start_sends_nothing(site):
    config = site.home / "app" / "config"
    (config / "run_spec.json").write_bytes(SPEC.model_copy(update={"rounds": 9}).canonical())
    assert "run_spec.json of the job is not" in refused(site)
