"""Nothing stays at work when nobody answers for it; who comes back is called back; what is stopped ends."""

from datetime import timedelta

import pytest
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation.errors import FlareRefusedError, FlareUnavailableError
from platform_web.outbox.models import Task
from platform_web.training import services, tasks
from platform_web.training.errors import RunStateError
from platform_web.training.models import Run, RunJob
from tests.platform_web import world
from tests.platform_web.fake_flare import FakeFlare
from tests.platform_web.training.beats import NAMES, interrupted, later, look, seen, submit_promised


@pytest.fixture
def run(masked_run):
    return masked_run


@pytest.fixture
def flare(job_of_three_rounds):
    return job_of_three_rounds


def silence(run, flare, seconds):
    look(run, flare)
    Run.objects.filter(pk=run.pk).update(silent_since=timezone.now() - timedelta(seconds=seconds))
    return look(run, flare)


def test_a_job_that_fell_silent_is_aborted_and_the_run_goes_on(run, flare):
    look(run, flare)
    flare.mute = True
    assert silence(run, flare, 100) == Run.State.RUNNING
    assert silence(run, flare, 121) == Run.State.RESUMING
    assert (flare.aborted, run.interruption["code"]) == ([run.nvflare_job_id], "JOB_SILENT")


def test_a_job_that_answers_again_is_not_silent(run, flare):
    look(run, flare)
    flare.mute = True
    silence(run, flare, 100)
    flare.mute = False
    look(run, flare)
    assert run.silent_since is None


def test_a_job_that_never_speaks_is_withdrawn_after_a_quarter_of_an_hour(run, flare):
    flare.mute = True
    assert look(run, flare) == Run.State.SUBMITTED
    RunJob.objects.update(submitted=timezone.now() - timedelta(minutes=16))
    assert look(run, flare) == Run.State.RESUMING
    assert run.interruption["code"] == "JOB_UNHEARD"


class Deaf(FakeFlare):
    def journal(self, job_id, since):
        raise FlareUnavailableError("Nobody answers.")

    job_status = abort = journal


def test_a_server_that_is_gone_leaves_no_run_training(run, flare, dana):
    look(run, flare)
    assert silence(run, Deaf(), 121) == Run.State.RESUMING
    assert run.interruption["code"] == "SERVER_SILENT"
    later(run, 70)
    assert look(run, flare) == Run.State.RESUMING  # no site has been seen since
    seen()
    look(run, flare)
    submit_promised(run, flare)
    assert flare.aborted == [f"job-{run.pk}-1"]  # it may have lived on behind a cut line


def test_a_site_that_is_back_ends_the_job_at_a_boundary_once(run, flare):
    flare.lines.append(world.round_line(4, NAMES[:3], lost=["site-d"]))
    look(run, flare)
    RunJob.objects.update(submitted=timezone.now() - timedelta(seconds=21))
    seen()
    look(run, flare)
    assert flare.asked_to_end == []  # its heartbeat may be from before the loss
    Run.objects.update(lost={"site-d": (timezone.now() - timedelta(seconds=6)).isoformat()})
    look(run, flare)
    look(run, flare)
    assert [job for job, _reason in flare.asked_to_end] == [run.nvflare_job_id]
    assert "site-d" in flare.asked_to_end[0][1]
    assert AuditEvent.objects.filter(act="run.rejoin_asked").count() == 1


@pytest.mark.parametrize(("returns", "seconds", "asked"), [(1, 21, 1), (3, 70, 0), (3, 81, 1)])
def test_a_site_that_is_lost_again_and_again_ends_jobs_less_often(run, flare, returns, seconds, asked):
    Run.objects.filter(pk=run.pk).update(epoch=returns + 1)
    RunJob.objects.filter(run=run).update(rejoin=["site-d"])
    for epoch in range(2, returns + 1):
        RunJob.objects.create(run=run, epoch=epoch, rejoin=["site-d"])
    RunJob.objects.create(
        run=run, epoch=returns + 1, submitted=timezone.now() - timedelta(seconds=seconds), start_round=1
    )
    flare.lines.append(world.round_line(4, NAMES[:3], epoch=returns + 1))
    look(run, flare)
    Run.objects.update(lost={"site-d": (timezone.now() - timedelta(seconds=9)).isoformat()})
    seen()
    look(run, flare)
    assert len(flare.asked_to_end) == asked


def test_those_who_are_wanted_go_on_at_once(run, flare, make_site):
    run.sites.add(world.bring_online(make_site("site-e")))
    flare.lines.append(world.round_line(4, NAMES[:3], lost=["site-d", "site-e"]))
    look(run, flare)
    services.note_rejoin_asked(run_id=str(run.pk), epoch=1, sites=["site-d"])
    interrupted(run, flare, code="REJOIN", missing=["site-d", "site-e"])
    seen("site-a", "site-b", "site-c")
    assert look(run, flare) == Run.State.RESUMING
    seen("site-d")
    assert look(run, flare) == Run.State.PREPARING


@pytest.mark.parametrize("changes", [{"rounds": 5}, {"lost": {}}])
def test_a_job_is_not_ended_when_it_does_not_pay(run, flare, changes):
    flare.lines.append(world.round_line(4, NAMES[:3]))
    look(run, flare)
    RunJob.objects.update(submitted=timezone.now() - timedelta(seconds=60))
    old = (timezone.now() - timedelta(seconds=60)).isoformat()
    Run.objects.update(**{"lost": {"site-d": old}} | changes)
    look(run, flare)
    assert flare.asked_to_end == []


def test_a_waiting_run_is_stopped_at_once(run, flare, dana):
    interrupted(run, flare)
    assert services.stop_run(run_id=str(run.pk), actor=dana).state == Run.State.STOPPED
    assert Task.objects.filter(name="training.submit_run").count() == 1
    with pytest.raises(RunStateError):
        services.stop_run(run_id=str(run.pk), actor=dana)


def test_a_waiting_run_whose_job_may_live_is_stopped_with_it(run, flare, dana):
    look(run, flare)
    flare.mute = True
    silence(run, flare, 121)
    services.stop_run(run_id=str(run.pk), actor=dana)
    flare.aborted.clear()
    assert look(run, flare) == Run.State.STOPPED
    assert flare.aborted == [f"job-{run.pk}-1"]


def test_a_run_stopped_while_its_job_was_handed_over_leaves_no_job_behind(run, flare, dana):
    interrupted(run, flare)
    seen()
    look(run, flare)
    services.note_handing_over(job=RunJob.objects.get(run=run, epoch=2))  # then the worker was killed
    services.stop_run(run_id=str(run.pk), actor=dana)
    tasks.submit(str(run.pk), 2, flare)
    tasks.submit(str(run.pk), 2, flare)
    assert flare.aborted == [f"job-{run.pk}-2"]


class Refusing(FakeFlare):
    def submit(self, folder, token):
        raise FlareRefusedError("Not now.")


def test_a_refused_first_job_is_the_persons_to_read_and_a_later_one_is_tried_again(run, flare):
    interrupted(run, flare)
    seen()
    look(run, flare)
    submit_promised(run, Refusing())
    assert (run.state, run.interruption["code"]) == (Run.State.RESUMING, "NO_JOB")
    Run.objects.update(epoch=1, state=Run.State.PREPARING)
    submit_promised(run, Refusing())
    assert (run.state, run.error) == (Run.State.FAILED, "Not now.")


def test_a_collection_that_was_tried_in_vain_goes_on_with_another_job(run, flare):
    look(run, flare)
    services.begin_collection(run_id=str(run.pk), job_status="FINISHED:COMPLETED")
    Task.objects.filter(name="registry.collect_run").update(failed=timezone.now(), last_error="No answer.")
    assert services.take_up_failed_work() == 1
    run.refresh_from_db()
    assert (run.state, run.interruption["error"]) == (Run.State.RESUMING, "No answer.")
    assert services.take_up_failed_work() == 0
