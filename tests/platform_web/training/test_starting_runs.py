import dataclasses

import pytest

from platform_web.audit.models import AuditEvent
from platform_web.federation.models import Dataset
from platform_web.outbox.models import Task
from platform_web.training import services
from platform_web.training.errors import RunRequestError, RunStateError, StudyError
from platform_web.training.models import Run, Study
from tests.platform_web import world


@pytest.fixture
def sites(make_site):
    return [world.bring_online(make_site(name)) for name in ("site-a", "site-b", "site-c")]


@pytest.fixture
def study(dana):
    return world.open_study(dana)


def start(dana, study, sites, **changes):
    return services.start_run(actor=dana, study=study, request=world.request_for(sites, **changes))


def test_a_run_is_a_row_an_entry_and_a_promise(dana, study, sites):
    run = start(dana, study, sites)
    assert run.state == Run.State.PREPARING
    assert AuditEvent.objects.filter(act="run.started", job=str(run.pk)).count() == 1
    assert Task.objects.get(name="training.prepare_run").arguments == {"run_id": str(run.pk)}


@pytest.mark.parametrize(
    ("chosen", "fewest", "word"),
    [
        (["site-a", "nowhere"], 2, "nowhere"),
        (["site-a"], 2, "at least 2"),
        (["site-a", "site-b"], 9, "at least 9"),
    ],
)
def test_a_run_that_cannot_be_is_refused_in_a_sentence_and_changes_nothing(
    dana, study, sites, chosen, fewest, word
):
    request = dataclasses.replace(world.request_for([]), sites=chosen, min_sites=fewest)
    with pytest.raises(RunRequestError, match=word):
        services.start_run(actor=dana, study=study, request=request)
    assert not Run.objects.exists()
    assert not Task.objects.exists()
    assert not AuditEvent.objects.filter(act="run.started").exists()


def test_an_offline_site_is_named(dana, study, sites):
    sites[1].heartbeat_at = None
    sites[1].save()
    with pytest.raises(RunRequestError, match="Hospital site-b is not online"):
        start(dana, study, sites)


def test_a_site_without_the_data_set_is_named(dana, study, sites):
    Dataset.objects.filter(site=sites[2]).delete()
    with pytest.raises(RunRequestError, match="Hospital site-c has not registered"):
        start(dana, study, sites)


def test_a_site_with_labels_the_study_does_not_know_is_named(dana, study, sites):
    Dataset.objects.filter(site=sites[2]).update(labels=["benign", "unclear"])
    with pytest.raises(RunRequestError, match="Hospital site-c has another kind or other labels"):
        start(dana, study, sites)


def test_two_studies_cannot_have_one_short_name(dana, study):
    with pytest.raises(StudyError, match="already a study"):
        world.open_study(dana)
    assert Study.objects.count() == 1


def test_a_run_that_is_prepared_twice_has_one_digest_and_one_promise(dana, study, sites):
    run = world.submitted_run(dana, study, sites)
    services.record_spec(run_id=str(run.pk), spec=run.run_spec())
    assert Task.objects.filter(name="training.submit_run").count() == 1
    assert run.run_spec().digest() == run.run_digest


def test_a_specification_altered_in_the_table_is_noticed(dana, study, sites):
    run = world.submitted_run(dana, study, sites)
    run.spec["rounds"] = 999
    with pytest.raises(RunStateError, match="does not match"):
        run.run_spec()


def test_a_run_stopped_while_it_is_prepared_never_starts(dana, study, sites):
    run = start(dana, study, sites)
    services.stop_run(run_id=str(run.pk), actor=dana)
    assert services.record_submitted(run_id=str(run.pk), epoch=1, job_id="job") is False
    run.refresh_from_db()
    assert run.state == Run.State.STOPPED


def test_a_run_whose_promised_work_failed_for_good_ends_with_its_sentence(dana, study, sites):
    run = start(dana, study, sites)
    Task.objects.update(failed=run.created, last_error="The worker was stopped every time.")
    assert services.take_up_failed_work() == 1
    run.refresh_from_db()
    assert (run.state, run.error) == (Run.State.FAILED, "The worker was stopped every time.")
