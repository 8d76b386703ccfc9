"""A run outlives its NVFlare jobs. Time is moved by moving the rows' moments back."""

from datetime import timedelta

import pytest
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation.errors import FlareRefusedError, FlareUnavailableError
from platform_web.federation.models import Site
from platform_web.outbox.models import Task
from platform_web.training import services, tasks
from platform_web.training.errors import RunStateError
from platform_web.training.models import Round, Run, RunJob
from tests.platform_web import world
from tests.platform_web.fake_flare import FakeFlare

NAMES = ["site-a", "site-b", "site-c", "site-d"]


@pytest.fixture
def sites(make_site):
    return [world.bring_online(make_site(name)) for name in NAMES]


@pytest.fixture
def run(dana, sites):
    return world.submitted_run(dana, world.open_study(dana), sites)


@pytest.fixture
def flare():
    fake = FakeFlare()
    fake.lines = [{"kind": "start", "epoch": 1}, *(world.round_line(n, NAMES) for n in (1, 2, 3))]
    return fake


def seen(*names):
    """These sites were heard just now by NVFlare and by the portal."""
    moment = timezone.now()
    Site.objects.filter(name__in=names or NAMES).update(flare_seen_at=moment, heartbeat_at=moment)


def later(run, seconds, *names):
    """As if the interruption had been ``seconds`` ago, and only these sites had been seen since."""
    run.refresh_from_db()
    Run.objects.filter(pk=run.pk).update(interrupted_at=run.interrupted_at - timedelta(seconds=seconds))
    Site.objects.update(flare_seen_at=run.created - timedelta(days=2))
    seen(*names or ("nobody",))


def look(run, flare):
    tasks.follow_all([str(run.pk)], flare)
    run.refresh_from_db()
    return run.state


def interrupted(run, flare, code="TOO_FEW", **more):
    """The controller ended the job at a boundary, and NVFlare says so."""
    flare.lines.append({"kind": "interrupted", "code": code, "error": "Why.", "epoch": run.epoch, **more})
    assert look(run, flare) == Run.State.RUNNING
    flare.statuses[run.nvflare_job_id] = "FINISHED:COMPLETED"
    assert look(run, flare) == Run.State.RESUMING


def submit_promised(run, flare):
    run.refresh_from_db()
    tasks.submit(str(run.pk), run.epoch, flare)
    run.refresh_from_db()


def test_after_the_servers_death_the_run_goes_on_from_the_next_round(run, flare):
    look(run, flare)
    flare.statuses[run.nvflare_job_id] = "FINISHED:ABANDONED"
    assert look(run, flare) == Run.State.RESUMING
    assert look(run, flare) == Run.State.RESUMING  # nobody has registered with the new server yet
    seen()
    assert look(run, flare) == Run.State.PREPARING
    assert Task.objects.filter(name="training.submit_run", arguments__epoch=2).count() == 1
    submit_promised(run, flare)
    job = flare.submitted[f"{run.pk}-2"]
    assert (run.state, run.epoch, job["arguments"]["start_round"]) == (Run.State.SUBMITTED, 2, 4)
    assert job["custom_props"]["run_digest"] == run.run_digest  # the sites approved this digest before
    acts = AuditEvent.objects.filter(job=str(run.pk)).values_list("act", flat=True)
    assert [list(acts).count(act) for act in ("run.interrupted", "run.resumed", "run.submitted")] == [1, 1, 2]


def test_lines_of_the_dead_job_are_read_in_the_next_ones_journal(run, flare):
    look(run, flare)
    flare.statuses[run.nvflare_job_id] = "FINISHED:ABANDONED"
    look(run, flare)
    seen()
    look(run, flare)
    submit_promised(run, flare)
    flare.lines += [
        world.round_line(4, NAMES),
        {"kind": "start", "epoch": 2},
        world.round_line(5, NAMES, epoch=2),
    ]
    look(run, flare)
    rounds = Round.objects.filter(run=run).values_list("number", "epoch")
    assert list(rounds) == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2)]
    assert run.journal_position == len(flare.lines)


def test_a_stale_servers_line_is_passed_over(run, flare):
    flare.lines += [{"kind": "start", "epoch": 2}, world.round_line(4, NAMES, epoch=1)]
    flare.lines += [world.round_line(4, NAMES, epoch=2, cohort={"local": {"train_loss": 0.25}})]
    look(run, flare)
    fourth = Round.objects.get(run=run, number=4)
    assert (fourth.epoch, fourth.cohort["local"]["train_loss"]) == (2, 0.25)
    assert AuditEvent.objects.filter(act="round.committed").count() == 4


def test_another_aggregate_of_a_committed_round_changes_nothing(run, flare):
    flare.lines.append(world.round_line(3, NAMES, aggregate_sha256={"global": world.sha("other")}))
    look(run, flare)
    assert Round.objects.get(run=run, number=3).aggregate_sha256["global"] == world.sha("global3")


@pytest.mark.parametrize("kind", ["failed", "stopped"])
def test_what_an_earlier_job_said_at_its_end_does_not_end_the_present_one(run, flare, kind):
    Run.objects.filter(pk=run.pk).update(epoch=2)
    RunJob.objects.create(run=run, epoch=2, submitted=timezone.now())
    flare.lines.append({"kind": kind, "error": "Aborted by the watch.", "epoch": 1})
    assert look(run, flare) == Run.State.RUNNING
    assert (run.error, RunJob.objects.get(run=run, epoch=1).error) == ("", "Aborted by the watch.")


def test_a_run_that_failed_is_not_taken_up_again(run, flare):
    flare.lines.append({"kind": "failed", "error": "Sites disagree.", "epoch": 1})
    look(run, flare)
    flare.status = "FINISHED:ABANDONED"
    assert look(run, flare) == Run.State.FAILED
    assert run.error == "Sites disagree."


def test_enough_sites_wait_a_minute_for_the_others(run, flare):
    interrupted(run, flare, missing=["site-d"])
    seen("site-a", "site-b", "site-c")
    assert look(run, flare) == Run.State.RESUMING
    later(run, 61, "site-a", "site-b", "site-c")
    assert look(run, flare) == Run.State.PREPARING
    assert RunJob.objects.get(run=run, epoch=2).sites == NAMES  # the lost one may join later


def test_too_few_sites_wait_and_after_a_day_the_run_ends_in_a_sentence(run, flare):
    interrupted(run, flare)
    later(run, 3600, "site-a", "site-b")
    assert look(run, flare) == Run.State.RESUMING
    later(run, 24 * 3600, "site-a", "site-b")
    assert look(run, flare) == Run.State.FAILED
    assert "waited 24 hours" in run.error
    assert run.error.endswith("Why.")


def test_a_suspended_site_is_not_waited_for_and_not_asked(run, flare):
    Site.objects.filter(name="site-d").update(status=Site.Status.SUSPENDED)
    interrupted(run, flare)
    seen("site-a", "site-b", "site-c")
    assert look(run, flare) == Run.State.PREPARING
    assert RunJob.objects.get(run=run, epoch=2).sites == NAMES[:3]


def test_where_others_would_reveal_a_site_the_same_ones_are_waited_for(run, flare):
    interrupted(run, flare, code="E_DIFFERENCING", missing=["site-d"])
    later(run, 3600, "site-a", "site-b", "site-c")
    assert look(run, flare) == Run.State.RESUMING
    seen("site-d")
    assert look(run, flare) == Run.State.PREPARING


def test_five_jobs_without_a_new_round_are_enough(run, flare):
    look(run, flare)
    for number in range(1, 7):
        interrupted_now = services.interrupt_run(
            run_id=str(run.pk), epoch=run.epoch, code="JOB_ENDED", error=f"Reason {number}."
        )
        assert interrupted_now
        run.refresh_from_db()
        if run.state == Run.State.FAILED:
            break
        later(run, 100, *NAMES)
        look(run, flare)
        submit_promised(run, flare)
    assert number == 6  # the first job had brought three rounds
    assert "5 NVFlare jobs in a row" in run.error
    assert run.error.endswith("Reason 6.")


def test_jobs_that_bring_nothing_are_spaced(run, flare):
    RunJob.objects.filter(run=run).update(start_round=4)
    RunJob.objects.create(run=run, epoch=2, start_round=4)
    Run.objects.filter(pk=run.pk).update(epoch=2)
    look(run, flare)
    flare.status = None
    look(run, flare)
    seen()
    assert look(run, flare) == Run.State.RESUMING
    later(run, 6, *NAMES)
    assert look(run, flare) == Run.State.PREPARING


def test_a_job_the_server_does_not_know_is_made_anew(run, flare):
    flare.status = None
    assert look(run, flare) == Run.State.RESUMING
    assert run.interruption["code"] == "JOB_UNKNOWN"


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
