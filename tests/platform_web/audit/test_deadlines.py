"""A request waits once for a database that does not answer."""

import pytest
from django.db import OperationalError, connection, transaction

from platform_web.audit import deadlines


def test_after_one_wait_without_an_answer_a_request_waits_for_nothing():
    with deadlines.one_request():
        assert 0.25 < deadlines.wait_s() <= deadlines.REQUEST_S
        deadlines.give_up()
        assert deadlines.wait_s() == 0
        with deadlines.patience(5):
            assert deadlines.wait_s() == 0
    with deadlines.one_request():
        assert deadlines.wait_s() > 0.25


def test_outside_a_request_nobody_gives_up():
    deadlines.give_up()
    assert deadlines.wait_s() is None


@pytest.mark.django_db(transaction=True)
def test_a_statement_without_an_answer_is_not_followed_by_a_new_connection():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no server to wait for")
    with deadlines.one_request():
        with pytest.raises(OperationalError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(30)")
        assert connection.connection is None or connection.connection.closed
        with pytest.raises(OperationalError):
            connection.ensure_connection()
    connection.close()
    with deadlines.one_request(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
