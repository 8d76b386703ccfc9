"""Asking the sites: who gets the job, when the run starts, what a refusal and a change of mind do."""

import pytest

from platform_web.audit.models import AuditEvent
from platform_web.outbox.models import Task
from platform_web.training import requests, services
from platform_web.training.errors import RunRequestError, RunStateError, StudyError
from platform_web.training.models import Run, RunApproval, RunJob
from platform_web.training.tasks import follow
from tests.platform_web import world
from tests.platform_web.fake_flare import FakeFlare

State = Run.State


@pytest.fixture
def sites(make_site):
    return [world.bring_online(make_site(name)) for name in ("site-a", "site-b", "site-c", "site-d")]


@pytest.fixture
def run(portal, dana, sites):
    return world.asked_run(dana, world.open_study(dana), sites)


def say(run, site, **facts):
    return services.record_decision(
        site=site, statement=world.statement(run, site, **facts), signature="c2ln", serial="1f"
    )


def look(run):
    follow(str(run.pk), FakeFlare())
    run.refresh_from_db()
    return run


def test_a_prepared_run_waits_and_every_site_is_asked(run, sites):
    assert run.state == State.APPROVING
    assert not Task.objects.filter(name="training.submit_run").exists()
    for site in sites:
        assert requests.pending_requests(site) == [{"run": str(run.pk), "digest": run.run_digest}]
    asked = requests.request_for(sites[0], str(run.pk))
    assert asked.spec.digest() == run.run_digest
    assert (asked.asked_by, asked.study_title) == ("dana", run.study.title)


def test_the_run_starts_when_all_have_decided_and_only_those_who_approved_get_the_job(run, sites):
    for site in sites[:3]:
        say(run, site)
        assert look(run).state == State.APPROVING
    say(run, sites[3], approve=False, reason="The board objects.", by="person")
    assert look(run).state == State.PREPARING
    assert RunJob.objects.get(run=run).sites == ["site-a", "site-b", "site-c"]
    assert requests.pending_requests(sites[3]) == []


def test_too_few_approvals_end_the_run_with_the_reason(run, sites):
    say(run, sites[0], approve=False, reason="The board objects.")
    assert look(run).state == State.APPROVING
    say(run, sites[1], approve=False)
    assert look(run).state == State.FAILED
    assert "Hospital site-a: The board objects." in run.error
    assert requests.pending_requests(sites[2]) == []


def test_a_person_may_end_the_waiting_when_enough_approved(run, sites, dana):
    for site in sites[:2]:
        say(run, site)
    with pytest.raises(RunStateError, match="Only 2 sites have approved"):
        services.start_with_approved(run_id=str(run.pk), actor=dana)
    say(run, sites[2])
    services.start_with_approved(run_id=str(run.pk), actor=dana)
    assert RunJob.objects.get(run=run).sites == ["site-a", "site-b", "site-c"]
    with pytest.raises(RunStateError, match="does not wait"):
        services.start_with_approved(run_id=str(run.pk), actor=dana)


def test_a_suspended_site_holds_nobody_up(run, sites):
    for site in sites[:3]:
        say(run, site)
    sites[3].status = sites[3].Status.SUSPENDED
    sites[3].save()
    assert look(run).state == State.PREPARING


def test_a_withdrawn_approval_keeps_the_site_out_of_the_next_job(run, sites):
    for site in sites:
        say(run, site)
    look(run)
    services.record_submitted(run_id=str(run.pk), epoch=1, job_id="job")
    say(run, sites[3], approve=False, reason="No.", decided_at="2026-12-02T00:00:00.000+00:00")
    run.refresh_from_db()
    assert [site.name for site in run.working_sites()] == ["site-a", "site-b", "site-c"]
    with pytest.raises(RunStateError, match="later decision"):
        say(run, sites[3])


def test_the_same_decision_twice_is_one_entry_and_other_digests_and_strangers_none(run, sites, make_site):
    for _ in range(2):
        say(run, sites[0])
    assert AuditEvent.objects.filter(act="run.approved").count() == 1
    with pytest.raises(RunStateError, match="another digest"):
        say(run, sites[1], run_digest="0" * 64)
    with pytest.raises(RunStateError, match="was not asked"):
        say(run, make_site("stranger"))
    assert not RunApproval.objects.filter(site=sites[1]).exclude(state="WAITING").exists()


def test_a_run_that_ended_takes_no_decision(run, sites, dana):
    services.stop_run(run_id=str(run.pk), actor=dana)
    run.refresh_from_db()
    assert run.state == State.STOPPED
    with pytest.raises(RunStateError, match="has ended"):
        say(run, sites[0])


def test_a_studys_and_the_platforms_policy_travel_and_refuse_early(portal, dana, sites, home):
    (home / "policy.toml").write_text("[output]\nmax_rounds = 20\n")
    study = world.open_study(dana)
    study.policy = "[cohort]\nmin_sites = 4\n"
    study.save()
    run = world.asked_run(dana, study, sites, min_sites=4)
    asked = requests.request_for(sites[0], str(run.pk))
    assert asked.platform_policy.output.max_rounds == 20
    assert asked.study_policy.cohort.min_sites == 4
    spec = run.run_spec()
    requests.check_policies(study, spec)
    with pytest.raises(RunRequestError, match=r"cohort\.min_sites"):
        requests.check_policies(study, spec.model_copy(update={"min_sites": 3}))
    (home / "policy.toml").write_text("[outputs]")
    with pytest.raises(RunRequestError, match="outputs is no setting"):
        requests.check_policies(study, spec)


def test_a_study_with_a_mistyped_policy_is_not_opened(dana):
    with pytest.raises(StudyError, match=r"cohort\.min_site is no setting"):
        services.open_study(
            actor=dana, slug="x", title="x", purpose="x", dataset="x", task=world.TABULAR, teaching=True,
            policy="[cohort]\nmin_site = 4",
        )  # fmt: skip


@pytest.fixture
def submitted(run, sites):
    """All four approved, and NVFlare has the job."""
    for site in sites:
        say(run, site)
    look(run)
    services.record_submitted(run_id=str(run.pk), epoch=1, job_id="job-1")
    run.refresh_from_db()
    return run


NO = {"approve": False, "decided_at": "2026-12-02T00:00:00.000+00:00"}


def test_when_fewer_than_the_minimum_are_left_the_run_ends_at_once_and_names_who_refused(submitted, sites):
    flare = FakeFlare()
    say(submitted, sites[0], reason="The board objects.", **NO)
    follow(str(submitted.pk), flare)
    submitted.refresh_from_db()
    assert submitted.state == State.SUBMITTED
    say(submitted, sites[1], **NO)
    follow(str(submitted.pk), flare)
    submitted.refresh_from_db()
    assert submitted.state == State.FAILED
    assert "Refused by Hospital site-a: The board objects.; Hospital site-b." in submitted.error
    assert flare.aborted == ["job-1"]
    entry = AuditEvent.objects.get(act="run.failed")
    assert b"board objects" not in bytes(entry.leaf), "what somebody typed can be erased"


def test_sites_whose_gate_stopped_the_job_count_before_its_first_round(submitted, sites):
    for site in sites[:2]:
        told = {
            "run": str(submitted.pk),
            "job": "job-1",
            "at": "",
            "sentence": "The policy does not permit it.",
        }
        site.heartbeat |= {"refusals": [told, told | {"job": "another"}]}
        site.save()
    follow(str(submitted.pk), FakeFlare())
    submitted.refresh_from_db()
    assert submitted.state == State.FAILED
    assert "Hospital site-a: The policy does not permit it." in submitted.error


def test_a_gate_that_closes_later_and_other_jobs_gates_end_nothing(submitted, sites):
    for site in sites:
        site.heartbeat |= {"refusals": [{"run": str(submitted.pk), "job": "another", "sentence": "x"}]}
        site.save()
    assert services.refusal_of(submitted) == ""
    names = [site.name for site in sites]
    services.apply_line(run_id=str(submitted.pk), position=0, line=world.round_line(1, names))
    for site in sites:
        site.heartbeat |= {"refusals": [{"run": str(submitted.pk), "job": "job-1", "sentence": "x"}]}
        site.save()
    submitted.refresh_from_db()
    assert services.refusal_of(submitted) == ""


def test_a_job_that_nvflare_could_not_deploy_names_who_refused_it(submitted, sites):
    flare = FakeFlare()
    flare.status, flare.mute = "FINISHED:FAILED_TO_RUN", True
    flare.refused = {"site-a": "not authorized", "site-b": "not authorized"}
    follow(str(submitted.pk), flare)
    submitted.refresh_from_db()
    assert submitted.state == State.FAILED
    assert "Hospital site-a: not authorized" in submitted.error
