from datetime import timedelta

import pytest
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.audit.services import envelope_of
from platform_web.federation.errors import FlareRefusedError
from platform_web.outbox.models import Task
from platform_web.training import services, tasks
from platform_web.training.models import Round, Run, SiteRound
from tests.platform_web import world
from tests.platform_web.fake_flare import FakeFlare

NAMES = ["site-a", "site-b"]


@pytest.fixture
def run(dana, make_site):
    sites = [world.bring_online(make_site(name)) for name in NAMES]
    return world.submitted_run(dana, world.open_study(dana), sites)


@pytest.fixture
def flare():
    fake = FakeFlare()
    fake.lines = [{"kind": "start"}, *(world.round_line(number, NAMES) for number in (1, 2, 3))]
    return fake


def test_new_lines_become_rows_and_one_entry_each(run, flare):
    tasks.follow(str(run.pk), flare)
    run.refresh_from_db()
    assert (run.state, run.journal_position) == (Run.State.RUNNING, 4)
    assert Round.objects.filter(run=run).count() == 3
    assert SiteRound.objects.filter(round__run=run).count() == 6
    assert AuditEvent.objects.filter(act="round.committed", job=str(run.pk)).count() == 3


def test_the_entry_says_what_was_received_of_whom(run, flare):
    received = {name: world.sha(name) for name in NAMES}
    flare.lines[2] |= {"received_sha256": received}
    tasks.follow(str(run.pk), flare)
    first, second, _third = AuditEvent.objects.filter(act="round.committed").order_by("pk")
    assert envelope_of(first)["data"]["received_sha256"] == [""] * len(NAMES)
    said = envelope_of(second)["data"]
    assert dict(zip(said["contributors"], said["received_sha256"], strict=True)) == received


@pytest.mark.parametrize("length", [10, 63])
def test_the_entry_of_a_large_round_has_room(run, flare, length):
    names = [f"s{number:03}".ljust(length, "x") for number in range(120)]
    flare.lines[1] |= {"sites": names, "received_sha256": {name: world.sha(name) for name in names}}
    tasks.follow(str(run.pk), flare)
    said = envelope_of(AuditEvent.objects.filter(act="round.committed").earliest("pk"))["data"]
    assert (said["sites"], len(said["contributors"])) == (120, 100)
    assert 0 < len(said["received_sha256"]) < 100


def test_following_again_doubles_nothing(run, flare):
    for _ in range(3):
        tasks.follow(str(run.pk), flare)
    assert Round.objects.filter(run=run).count() == 3
    assert AuditEvent.objects.filter(act="round.committed").count() == 3


def test_a_line_read_twice_by_two_workers_is_applied_once(run, flare):
    line = flare.lines[1]
    services.apply_line(run_id=str(run.pk), position=0, line=flare.lines[0])
    assert services.apply_line(run_id=str(run.pk), position=1, line=line) is True
    assert services.apply_line(run_id=str(run.pk), position=1, line=line) is False
    assert Round.objects.filter(run=run).count() == 1


def test_validation_figures_belong_to_the_round_they_measure(run, flare):
    tasks.follow(str(run.pk), flare)
    first, _second, third = Round.objects.filter(run=run)
    assert first.cohort["personal"]["val_accuracy"] > 0
    assert "val_loss" not in third.cohort["personal"]
    assert third.cohort["personal"]["train_loss"] > 0


def test_a_site_that_keeps_its_figures_still_has_a_row(run, flare):
    flare.lines[1]["site_metrics"] = {"site-a": None, "site-b": {"local": {"train_loss": 0.5}}}
    tasks.follow(str(run.pk), flare)
    rows = {row.site.name: row.metrics for row in SiteRound.objects.filter(round__number=1)}
    assert rows["site-a"] == {} or "train_loss" not in rows["site-a"].get("local", {})
    assert rows["site-b"]["local"]["train_loss"] == 0.5


def test_a_diverged_loss_is_no_figure(run, flare):
    flare.lines[1]["cohort"]["personal"]["train_loss"] = float("nan")
    tasks.follow(str(run.pk), flare)
    assert Round.objects.get(run=run, number=1).cohort["personal"]["train_loss"] is None


def test_one_worker_gets_the_lease_and_a_dead_ones_runs_out(run):
    now = timezone.now() + timedelta(seconds=1)
    assert services.lease_due_runs(moment=now) == [str(run.pk)]
    assert services.lease_due_runs(moment=now) == []
    assert services.lease_due_runs(moment=now + timedelta(seconds=31)) == [str(run.pk)]


def test_a_released_run_is_due_again_within_three_seconds(run):
    services.lease_due_runs(moment=timezone.now() + timedelta(seconds=1))
    services.release_run(run_id=str(run.pk))
    assert services.lease_due_runs(moment=timezone.now() + timedelta(seconds=1.5)) == [str(run.pk)]


def test_a_job_that_ended_is_collected_once_whatever_its_status_says(run, flare):
    flare.status = "FINISHED:ABNORMAL"
    tasks.follow(str(run.pk), flare)
    tasks.follow(str(run.pk), flare)
    run.refresh_from_db()
    assert run.state == Run.State.COLLECTING
    assert Task.objects.filter(name="registry.collect_run").count() == 1


def test_a_line_that_cannot_be_read_ends_the_run_in_a_sentence(run, flare):
    flare.lines[2]["round"] = "three"
    tasks.follow(str(run.pk), flare)
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert "cannot be read (round" in run.error
    assert flare.aborted == [run.nvflare_job_id]
    assert Round.objects.filter(run=run).count() == 1


class Refusing(FakeFlare):
    def job_status(self, job_id):
        raise FlareRefusedError("Not now.")


def test_a_run_the_server_refuses_is_released_and_looked_at_again(run):
    tasks.follow_all([str(run.pk)], Refusing())
    run.refresh_from_db()
    assert (run.state, run.lease_until) == (Run.State.SUBMITTED, None)


def test_a_stopped_run_keeps_its_rounds(run, flare, dana):
    tasks.follow(str(run.pk), flare)
    services.stop_run(run_id=str(run.pk), actor=dana)
    tasks.follow(str(run.pk), flare)
    run.refresh_from_db()
    assert (run.state, flare.aborted) == (Run.State.STOPPED, [run.nvflare_job_id])
    assert Round.objects.filter(run=run).count() == 3


def test_submitting_twice_makes_one_job_that_names_run_and_person(run, flare):
    for _ in range(2):
        Run.objects.filter(pk=run.pk).update(state=Run.State.PREPARING, nvflare_job_id="")
        tasks.submit(str(run.pk), 1, flare)
    assert list(flare.submitted) == [f"{run.pk}-1"]
    properties = flare.submitted[f"{run.pk}-1"]["custom_props"]
    assert (properties["run_digest"], properties["asked_by"]) == (run.run_digest, "dana")
    run.refresh_from_db()
    assert run.state == Run.State.SUBMITTED
