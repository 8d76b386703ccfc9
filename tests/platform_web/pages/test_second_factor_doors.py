"""Every URL of the portal and of its admin, by whoever lacks the second factor: never content."""

import os
import subprocess
import sys
import uuid

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django_otp import DEVICE_ID_SESSION_KEY

from platform_web.accounts.models import Role
from tests.platform_web.conftest import PASSWORD
from tests.platform_web.phones import enrol

NAME = "zoe.of-the-north"  # no three letters, which a token or a nonce on the page has now and then
LOGIN, STEP = "/accounts/login/", "/accounts/second-factor/"
SAMPLES = {"int": 1, "uuid": uuid.UUID(int=1), "slug": "site-a", "str": "a", "path": "1"}
# what a visitor may see too, without a name or a row of anybody
PUBLIC = {"health", "set_language", "login", "kit"}
METHODS = ("get", "post")


def addresses(patterns, space=""):
    """(name, address) of every URL that has a name."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from addresses(
                pattern.url_patterns, f"{pattern.namespace}:" if pattern.namespace else space
            )
        elif isinstance(pattern, URLPattern) and pattern.name:
            yield f"{space}{pattern.name}", address(f"{space}{pattern.name}", pattern)


def address(name, pattern):
    kinds = {
        key: type(converter).__name__.removesuffix("Converter").lower()
        for key, converter in pattern.pattern.converters.items()
    }
    values = {key: SAMPLES["str" if kind == "string" else kind] for key, kind in kinds.items()}
    if name == "admin:app_list":
        return "/admin/auth/"
    if name == "admin:view_on_site":
        return "/admin/r/1/1/"
    return reverse(name, kwargs=values)


EVERY = dict(addresses(get_resolver("platform_web.urls").url_patterns))


def test_the_list_is_whole():
    assert len(EVERY) > 100
    assert {"home", "audit_bundle", "admin:index", "admin:auth_user_changelist", "admin_login"} <= set(EVERY)


def halfway(person):
    """The right password, and no code yet."""
    client = Client()
    assert client.post(LOGIN, {"username": person.username, "password": PASSWORD}).url == STEP
    return client


def stale(person):
    """A session of before the factor was enrolled or asked for, whatever made it."""
    client = Client()
    client.force_login(person)
    return client


def forged(person):
    """A session that names the factor of somebody else."""
    client = stale(person)
    session = client.session
    other, _codes = enrol_other()
    session[DEVICE_ID_SESSION_KEY] = other
    session.save()
    return client


def enrol_other():
    from django.contrib.auth.models import User

    other = User.objects.create(username="other")
    _phone, codes = enrol(other)
    return other.second_factor.persistent_id, codes


@pytest.mark.parametrize(
    ("door", "has_one", "role"),
    [
        (halfway, True, Role.ADMINISTRATOR),
        (halfway, False, Role.AUDITOR),
        (stale, True, Role.AUDITOR),
        (stale, False, Role.ADMINISTRATOR),
        (forged, False, Role.ADMINISTRATOR),
    ],
)
def test_without_the_second_factor_no_url_shows_anything(portal, person, settings, door, has_one, role):
    somebody = person(NAME, role)
    settings.CONSILIUM_SECOND_FACTOR = "required"
    if has_one:
        enrol(somebody)
    client = door(somebody)
    held = dict(client.session)
    wrong = {}
    for name, path in EVERY.items():
        for method in METHODS:
            answer = getattr(client, method)(path)
            if not refused(name, answer):
                wrong[f"{method} {name}"] = answer.status_code
            if dict(client.session) != held:  # the gate ended the session: the next URL meets it anew
                restore(client, held)
    assert wrong == {}


def restore(client, held):
    session = client.session
    session.flush()
    session.update(held)
    session.save()
    client.cookies["consilium_session"] = session.session_key


def refused(name, answer):
    """A redirect to sign in, a refusal, or one of the public pages without anybody's data."""
    if answer.status_code in {301, 302}:
        return answer.url.startswith((LOGIN, "/admin/login/?")) or answer.url == STEP or name in PUBLIC
    if name == "second_factor":
        return b"second-factor" in answer.content or b"enrol-factor" in answer.content or not answer.content
    if name in PUBLIC:
        return NAME.encode() not in answer.content and b"Hospital" not in answer.content
    return answer.status_code in {401, 403, 405}


def test_a_factor_of_somebody_else_does_not_count(ann, settings):
    settings.CONSILIUM_SECOND_FACTOR = "required"
    assert forged(ann).get("/").url == f"{LOGIN}?next=/"


@pytest.mark.parametrize("path", ["/admin/", "/admin/auth/user/", "/", "/audit/"])
def test_with_it_everything_is_as_before(client, portal, ann, settings, path):
    settings.CONSILIUM_SECOND_FACTOR = "required"
    _phone, codes = enrol(ann)
    client.post(LOGIN, {"username": "ann", "password": PASSWORD})
    client.post(STEP, {"code": codes[0]})
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("role", [Role.DATA_SCIENTIST])
def test_who_needs_none_signs_in_by_password(client, person, settings, role):
    settings.CONSILIUM_SECOND_FACTOR = "required"
    person("dana", role)
    assert client.post(LOGIN, {"username": "dana", "password": PASSWORD}).url == "/"
    assert client.get("/").status_code == 200


def test_two_roles_or_the_admins_flag_free_nobody(client, ann, dana, settings):
    settings.CONSILIUM_SECOND_FACTOR = "required"
    dana.groups.add(ann.groups.first())
    assert client.post(LOGIN, {"username": "dana", "password": PASSWORD}).url == STEP
    ann.groups.clear()
    assert client.post(LOGIN, {"username": "ann", "password": PASSWORD}).url == STEP


@pytest.mark.parametrize(("said", "holds"), [(None, "required"), ("optional", "optional")])
def test_production_requires_it_unless_told_otherwise(home, said, holds):
    ask = "from infra.settings import prod; print(prod.CONSILIUM_SECOND_FACTOR)"
    environment = {name: value for name, value in os.environ.items() if name != "CONSILIUM_SECOND_FACTOR"}
    environment |= {"CONSILIUM_WEB_ORIGIN": "https://portal.example", "CONSILIUM_HOME": str(home)}
    environment |= {"CONSILIUM_SECOND_FACTOR": said} if said else {}
    done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == holds, done.stderr
