from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from platform_web.outbox import runner, selectors, services
from platform_web.outbox.errors import OutboxError, PortalError, TransientError
from platform_web.outbox.models import Task

CALLS = []
RAISES = []


def handler(*, number):
    CALLS.append(number)
    if RAISES:
        raise RAISES[0]


@pytest.fixture(autouse=True)
def registry(settings):
    CALLS.clear()
    RAISES.clear()
    settings.OUTBOX_HANDLERS = {"test.count": (f"{__name__}.handler", "default")}


def promise(number=1):
    with transaction.atomic():
        return services.enqueue("test.count", number=number)


def later(task, **columns):
    Task.objects.filter(pk=task.pk).update(**columns)


@pytest.mark.django_db
def test_a_promise_is_kept_once_however_often_the_bell_rings():
    task = promise()
    assert runner.run_task(task.pk)
    assert not runner.run_task(task.pk)
    assert CALLS == [1]


@pytest.mark.django_db
def test_a_task_under_lease_belongs_to_its_worker():
    task = promise()
    assert services.claim(task.pk, timezone.now())
    assert services.claim(task.pk, timezone.now()) is None


@pytest.mark.django_db
def test_the_task_of_a_killed_worker_is_free_when_its_lease_is_over():
    task = promise()
    services.claim(task.pk, timezone.now())
    later(task, lease_until=timezone.now() - timedelta(seconds=1))
    assert runner.run_task(task.pk)


@pytest.mark.django_db
def test_a_world_that_is_not_ready_is_asked_again_later():
    RAISES.append(TransientError("not yet"))
    task = promise()
    runner.run_task(task.pk)
    task.refresh_from_db()
    assert task.failed is None
    assert task.not_before > timezone.now()
    assert selectors.is_pending("test.count", number=1)
    RAISES.clear()
    later(task, not_before=timezone.now())
    assert runner.run_all_due() == 1


@pytest.mark.django_db
def test_a_refusal_is_final_and_keeps_its_sentence():
    RAISES.append(PortalError("The wheel is missing."))
    task = promise()
    runner.run_task(task.pk)
    task.refresh_from_db()
    assert task.last_error == "The wheel is missing."
    assert task.failed
    assert not selectors.is_pending("test.count", number=1)


@pytest.mark.django_db
def test_a_defect_goes_up_and_the_task_stays_leased():
    RAISES.append(ZeroDivisionError())
    task = promise()
    with pytest.raises(ZeroDivisionError):
        runner.run_task(task.pk)
    task.refresh_from_db()
    assert task.lease_until
    assert not task.failed


@pytest.mark.django_db
def test_a_task_that_always_stops_its_worker_fails_in_the_end():
    task = promise()
    later(task, attempts=services.MAX_ATTEMPTS)
    assert not runner.run_task(task.pk)
    task.refresh_from_db()
    assert task.failed
    assert CALLS == []


@pytest.mark.django_db
def test_the_reconciler_rings_for_lost_messages_but_not_again_at_once():
    task = promise()
    now = timezone.now()
    assert services.ring_due(now) == 1  # the test's transaction never commits, so nobody rang
    assert services.ring_due(now) == 0
    later(task, rung_at=now - services.RING_AGAIN - timedelta(seconds=1))
    assert services.ring_due(now) == 1


@pytest.mark.django_db
def test_a_postponed_task_is_rung_when_its_time_has_come():
    task = promise()
    now = timezone.now()
    later(task, rung_at=now - timedelta(seconds=3), not_before=now - timedelta(seconds=1))
    assert services.ring_due(now) == 1


@pytest.mark.django_db
def test_an_unknown_task_cannot_be_promised():
    with pytest.raises(OutboxError, match=r"test\.other"), transaction.atomic():
        services.enqueue("test.other")


@pytest.mark.django_db(transaction=True)
def test_a_promise_outside_a_transaction_is_refused():
    with pytest.raises(OutboxError, match="transaction"):
        services.enqueue("test.count", number=1)


@pytest.mark.django_db(transaction=True)
def test_the_bell_rings_after_the_commit_and_never_for_what_was_rolled_back():
    assert Task.objects.get(pk=promise().pk).rung_at
    with transaction.atomic():
        services.enqueue("test.count", number=2)
        transaction.set_rollback(True)
    assert Task.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_dead_broker_does_not_break_the_request(settings, monkeypatch):
    from celery import current_app
    from kombu.exceptions import OperationalError

    def no_broker(*args, **kwargs):
        raise OperationalError("refused")

    monkeypatch.setattr(current_app, "send_task", no_broker)
    assert promise().pk
