import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpResponse
from django.test import RequestFactory

from platform_web.accounts.models import Membership, Role
from platform_web.accounts.scope import ScopedManager, role_of, role_required
from platform_web.federation.models import Dataset, Site

pytestmark = pytest.mark.django_db


@role_required(Role.AUDITOR)
def page(request):
    return HttpResponse("seen")


def get(user):
    request = RequestFactory().get("/audit/?x=1")
    request.user = user
    return page(request)


def test_an_operator_and_a_clinician_see_their_own_site_only(two_sites):
    for user in (two_sites.cleo, two_sites.olaf):
        assert list(Site.objects.for_user(user)) == [two_sites.a]
    assert list(Site.objects.for_user(two_sites.mallory)) == [two_sites.b]


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.DATA_SCIENTIST, Role.AUDITOR])
def test_people_without_a_site_see_all_sites(two_sites, person, role):
    assert Site.objects.for_user(person("x", role)).count() == 2


def test_rows_of_a_site_follow_the_site(two_sites, django_user_model):
    from django.utils import timezone

    for site in (two_sites.a, two_sites.b):
        Dataset.objects.create(
            site=site, name="d", kind="tabular", digest="0" * 64, rows=1, reported_at=timezone.now()
        )
    assert [card.site for card in Dataset.objects.for_user(two_sites.mallory)] == [two_sites.b]


def test_visitors_inactive_people_and_people_without_a_role_see_nothing(two_sites):
    two_sites.cleo.is_active = False
    for user in (AnonymousUser(), two_sites.cleo, User.objects.create(username="nobody")):
        assert not Site.objects.for_user(user).exists()


def test_two_roles_are_none(two_sites):
    two_sites.cleo.groups.add(Group.objects.get_or_create(name=Role.ADMINISTRATOR)[0])
    assert role_of(User.objects.get(pk=two_sites.cleo.pk)) is None


def test_a_superuser_without_a_role_sees_nothing(two_sites):
    assert not Site.objects.for_user(User.objects.create(username="root", is_superuser=True)).exists()


def test_a_model_must_say_how_it_reaches_its_site(ann):
    manager = ScopedManager()
    manager.model = Membership
    with pytest.raises(ImproperlyConfigured, match="site_path"):
        manager.get_queryset().for_user(ann)


def test_a_page_is_for_its_roles(otto, ann):
    assert get(otto).content == b"seen"
    with pytest.raises(PermissionDenied, match="auditor"):
        get(ann)


def test_a_visitor_is_sent_to_sign_in_and_back():
    assert get(AnonymousUser())["Location"] == "/accounts/login/?next=/audit/%3Fx%3D1"
