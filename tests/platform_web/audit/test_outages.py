"""A session that cannot be stored after the view's work: never the sentence that nothing was changed."""

import pytest
from django.contrib.auth.views import LogoutView
from django.contrib.sessions.models import Session
from django.db import DatabaseError, OperationalError, transaction

from platform_web.audit import spool
from platform_web.federation import invitation_text
from platform_web.federation.models import Site
from tests.platform_web.pages.test_sites_pages import FIELDS


@pytest.fixture
def administrator(client, ann, portal, settings):
    """Every answer stores the session."""
    settings.SESSION_SAVE_EVERY_REQUEST = True
    client.force_login(ann)
    return client


@pytest.fixture
def breaks(monkeypatch):
    """``breaks(error)``: from now on a session's row cannot be written."""

    def arm(error):
        def save(*_args, **_kwargs):
            raise error

        monkeypatch.setattr(Session, "save", save)

    return arm


def assert_done_but_not_known(answer):
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, False)
    assert "It is not known whether this was done." in answer.text
    assert Site.objects.filter(name="st-anna").exists()
    [kept] = spool.folder().iterdir()
    assert '"done":"unknown"' in kept.read_text(encoding="utf-8")


def test_locked_database_after_an_act(administrator, breaks):
    breaks(OperationalError("database is locked"))
    answer = administrator.post("/sites/add/", FIELDS, headers={"Accept": "text/html"})
    assert_done_but_not_known(answer)


def test_locked_database_after_a_page(administrator, breaks):
    breaks(OperationalError("database is locked"))
    answer = administrator.get("/sites/", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert "Nothing was done." in answer.text


def test_signed_out_meanwhile(administrator, breaks):
    """Django's own reason for this exception: the row is gone."""
    breaks(DatabaseError("Save with update_fields did not affect any rows."))
    answer = administrator.post("/sites/add/", FIELDS, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (409, "signed_out")
    assert "look whether it was done" in answer.json()["detail"]


def test_who_could_not_be_signed_out_is_still_signed_in(client, ann, portal, monkeypatch):
    """The disk is full at the commit: the view has emptied the session by then."""
    client.force_login(ann)
    sign_out = LogoutView.post

    def at_the_commit(*given, **named):
        with transaction.atomic():
            sign_out(*given, **named)
            raise OperationalError("database or disk is full")

    with monkeypatch.context() as full:
        full.setattr(LogoutView, "post", at_the_commit)
        assert client.post("/accounts/logout/", headers={"Accept": "text/html"}).status_code == 503
    assert client.get("/sites/").status_code == 200


def test_what_is_malformed_changed_nothing(client):
    answer = client.get("/", headers={"Host": "elsewhere.example"})
    assert answer.status_code == 400
    assert "Nothing was changed" in answer.text


def gone(*_args, **_kwargs):
    raise OperationalError("the server closed the connection unexpectedly")


@pytest.mark.django_db(transaction=True)
def test_an_act_that_was_committed_before_the_database_went_is_not_called_undone(
    client, ann, portal, monkeypatch
):
    client.force_login(ann)
    monkeypatch.setattr(invitation_text, "root_fingerprint", gone)  # the page reads it after the commit
    answer = client.post("/sites/add/", FIELDS, headers={"Accept": "text/html"})
    assert_done_but_not_known(answer)


@pytest.mark.django_db(transaction=True)
def test_an_act_that_was_not_committed_is_called_undone(client, ann, portal, monkeypatch):
    client.force_login(ann)
    monkeypatch.setattr("platform_web.audit.services.record", gone)
    answer = client.post("/sites/add/", FIELDS, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert "Nothing was done." in answer.text
    assert not Site.objects.filter(name="st-anna").exists()
