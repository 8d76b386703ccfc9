import pytest
from django.contrib.auth.models import User

from platform_web.accounts import services
from platform_web.accounts.errors import AccountError
from platform_web.accounts.models import Role
from platform_web.accounts.scope import role_of
from platform_web.audit.models import AuditEvent

pytestmark = pytest.mark.django_db
GOOD = {"username": "cleo", "password": "correct horse battery", "role": Role.CLINICIAN}


def test_a_person_has_one_role_and_an_entry_says_so(ann, make_site):
    cleo = services.add_person(actor=ann, **GOOD, site_id=make_site().pk)
    assert role_of(cleo) == Role.CLINICIAN
    assert not cleo.is_staff
    entry = AuditEvent.objects.filter(act="person.added").latest("number")
    assert entry.actor == f"user:{ann.pk}"
    assert b"cleo" not in bytes(entry.leaf)


@pytest.mark.parametrize(
    "change",
    [
        {"username": ""},
        {"username": "a b"},
        {"username": "x" * 200},
        {"password": "short"},
        {"password": "password123"},
        {"role": "emperor"},
        {"site": False},
        {"role": Role.AUDITOR},
        {"site": 999_999},
    ],
)
def test_bad_input_is_a_sentence_and_changes_nothing(ann, make_site, change):
    values = {**GOOD, "site_id": make_site().pk} | {k: v for k, v in change.items() if k != "site"}
    if "site" in change:
        values["site_id"] = change["site"] or None
    people, entries = User.objects.count(), AuditEvent.objects.count()
    with pytest.raises(AccountError):
        services.add_person(actor=ann, **values)
    assert (User.objects.count(), AuditEvent.objects.count()) == (people, entries)


def test_a_taken_name_is_refused(ann, otto):
    with pytest.raises(AccountError, match="exists"):
        services.add_person(actor=ann, username="otto", password=GOOD["password"], role=Role.AUDITOR)


def test_a_deactivated_person_has_no_role_and_nobody_deactivates_themselves(ann, otto):
    services.deactivate_person(actor=ann, person=otto)
    assert role_of(User.objects.get(pk=otto.pk)) is None
    with pytest.raises(AccountError, match="yourself"):
        services.deactivate_person(actor=ann, person=ann)


def test_what_was_typed_at_a_refused_sign_in_is_not_kept(db):
    services.record_sign_in_refused(username="my-secret-password")
    leaf = bytes(AuditEvent.objects.get().leaf)
    assert b"my-secret-password" not in leaf
    assert b'"out":"deny"' in leaf
