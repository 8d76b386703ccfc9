"""A run outlives its NVFlare jobs. Time is moved by moving the rows' moments back."""

import pytest
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation.models import Site
from platform_web.outbox.models import Task
from platform_web.training import services
from platform_web.training.models import Round, Run, RunJob
from tests.platform_web import world
from tests.platform_web.training.beats import NAMES, interrupted, later, look, seen, submit_promised


@pytest.fixture
def run(masked_run):
    return masked_run


@pytest.fixture
def flare(job_of_three_rounds):
    return job_of_three_rounds


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
