"""The portal says when the database acknowledges before the disk has it."""

import pytest
from django.db import OperationalError, connection

from platform_web.audit import checks


@pytest.mark.django_db
def test_a_database_that_waits_for_the_disk_is_not_warned_of() -> None:
    assert checks.acknowledged_means_on_disk(["default"]) == []


@pytest.mark.django_db
def test_a_setting_that_loses_entries_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite waits for the disk by the connection's own setting")
    monkeypatch.setattr(checks, "DURABLE", ("fsync", "debug_assertions"))  # this one is off in every release
    (warning,) = checks.acknowledged_means_on_disk(["default"])
    assert "debug_assertions = off" in warning.msg
    assert warning.hint


@pytest.mark.django_db
def test_a_database_that_does_not_answer_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_args: object) -> None:
        raise OperationalError("the server does not answer")

    monkeypatch.setattr(connection, "vendor", "postgresql")
    monkeypatch.setattr(connection, "cursor", gone)
    assert checks.acknowledged_means_on_disk(["default"]) == []


@pytest.mark.django_db(transaction=True)
def test_a_session_raises_what_the_database_lowered() -> None:
    if connection.vendor != "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous")
            assert cursor.fetchone()[0] == 2  # FULL
        return
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'")
            assert cursor.fetchone()[0] == "on"
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
