import hashlib

import pytest

from platform_web.audit.models import AuditEvent
from platform_web.federation import places
from platform_web.registry import selectors, tasks
from platform_web.registry.models import ModelVersion, SiteModel
from platform_web.training import services as training
from platform_web.training.models import Round, Run
from tests.platform_web import world
from tests.platform_web.fake_flare import FakeFlare

NAMES = ["site-a", "site-b"]
FILES = {hashlib.sha256(content).hexdigest(): content for content in (b"shared global", b"shared personal")}
SHARED = dict(zip(("global", "personal"), FILES, strict=True))


@pytest.fixture
def sites(make_site):
    return [world.bring_online(make_site(name)) for name in NAMES]


@pytest.fixture
def run(dana, sites):
    """Two of three rounds were followed when the job ended."""
    made = world.submitted_run(dana, world.open_study(dana), sites)
    world.feed(made, [{"kind": "start"}, world.round_line(1, NAMES), world.round_line(2, NAMES)])
    training.begin_collection(run_id=str(made.pk), job_status="FINISHED:ABNORMAL")
    return made


def lines(**finish):
    last = world.finish_line(NAMES, round_number=3, shared=SHARED) | finish
    return [{"kind": "start"}, *(world.round_line(number, NAMES) for number in (1, 2, 3)), last]


@pytest.fixture
def flare(tmp_path):
    fake = FakeFlare()
    fake.status = "FINISHED:ABNORMAL"
    fake.leave_results(tmp_path / "result", lines(), FILES)
    return fake


def test_what_was_not_followed_is_read_from_the_result(run, flare):
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert run.state == Run.State.COMPLETED
    assert Round.objects.filter(run=run).count() == 3


def test_shared_parts_lie_under_their_digest(run, flare):
    tasks.collect(str(run.pk), 1, flare)
    for digest, content in FILES.items():
        assert places.artifact(digest).read_bytes() == content
    assert set(ModelVersion.objects.filter(run=run).values_list("arm", flat=True)) == set(world.ARMS)


def test_collecting_twice_doubles_nothing(run, flare):
    for _ in range(2):
        tasks.collect(str(run.pk), 1, flare)
    assert SiteModel.objects.count() == 8
    assert AuditEvent.objects.filter(act="run.completed").count() == 1


def test_a_worker_killed_after_the_files_goes_on_where_it_was(run, flare):
    places.artifact(SHARED["global"]).parent.mkdir(parents=True)
    places.artifact(SHARED["global"]).write_bytes(b"half")  # a torn file under the right name
    tasks.collect(str(run.pk), 1, flare)
    assert places.artifact(SHARED["global"]).read_bytes() == b"shared global"
    assert not [path for path in places.artifact("x").parent.iterdir() if path.name.startswith(".")]


def test_a_missing_shared_part_registers_nothing(run, tmp_path):
    flare = FakeFlare()
    flare.leave_results(tmp_path / "poor", lines(), {})
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert run.state == Run.State.RESUMING  # the next job hands the results over again
    assert "lacks the shared part" in run.interruption["error"]
    assert not ModelVersion.objects.exists()


def test_an_altered_shared_part_registers_nothing(run, tmp_path):
    flare = FakeFlare()
    flare.leave_results(tmp_path / "altered", lines(), dict.fromkeys(FILES, b"other"))
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert not places.artifact(SHARED["global"]).exists()


def test_sites_that_contradict_the_server_register_nothing(run, tmp_path):
    told = lines()
    told[-1]["sites"]["site-b"]["shared_sha256"] = {"global": world.sha("another")}
    flare = FakeFlare()
    flare.leave_results(tmp_path / "odd", told, FILES)
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert "different shared parts" in run.error


def test_a_run_without_a_finish_says_why(run, tmp_path):
    flare = FakeFlare()
    flare.status = "FINISHED:EXECUTION_EXCEPTION"
    flare.leave_results(
        tmp_path / "short", [*lines()[:-1], {"kind": "failed", "error": "Only 1 site is left."}], {}
    )
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert (run.state, run.error) == (Run.State.FAILED, "Only 1 site is left.")
    assert Round.objects.filter(run=run).count() == 3


def test_a_run_whose_job_ended_early_waits_to_go_on(run, tmp_path):
    flare = FakeFlare()
    flare.status = "FINISHED:EXECUTION_EXCEPTION"
    flare.leave_results(tmp_path / "short", lines()[:-1], {})
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert (run.state, run.interruption["code"]) == (Run.State.RESUMING, "JOB_ENDED")
    assert "FINISHED:EXECUTION_EXCEPTION" in run.interruption["error"]
    assert Round.objects.filter(run=run).count() == 3


def test_a_result_that_cannot_be_fetched_is_made_again(run):
    tasks.collect(str(run.pk), 1, FakeFlare())
    run.refresh_from_db()
    assert (run.state, run.interruption["code"]) == (Run.State.RESUMING, "NO_RESULT")


def test_the_promise_of_an_earlier_job_collects_nothing(run, flare):
    Run.objects.filter(pk=run.pk).update(epoch=2)
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert run.state == Run.State.COLLECTING


def test_a_journal_that_became_shorter_is_no_truth(run, tmp_path):
    flare = FakeFlare()
    flare.leave_results(tmp_path / "lost", lines()[:2], {})
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert "fewer lines than were read before" in run.error


def test_a_site_that_keeps_its_counts_gets_its_models(run, tmp_path):
    told = lines(cohort={"global": {"test_balanced_accuracy": 0.9, "test_accuracy": 0.91, "test_n": 60}})
    told[-1]["sites"]["site-b"] |= {"rows": None, "cells": None, "differences": None, "proposal": None}
    flare = FakeFlare()
    flare.leave_results(tmp_path / "kept", told, FILES)
    tasks.collect(str(run.pk), 1, flare)
    run.refresh_from_db()
    assert run.state == Run.State.COMPLETED
    assert SiteModel.objects.filter(site__name="site-b", rows={}, cells__isnull=True).count() == 4
    assert run.finish["cohort"]["global"]["test_n"] == 60


def test_a_site_reads_only_shared_parts_of_its_own_runs(run, flare, make_site):
    tasks.collect(str(run.pk), 1, flare)
    stranger = make_site("site-x")
    assert selectors.site_may_read(run.sites.first(), SHARED["global"])
    assert not selectors.site_may_read(stranger, SHARED["global"])
    assert not selectors.site_may_read(run.sites.first(), "")
