"""People, sites and a portal that is set up. Ann administers, otto audits, cleo and olaf belong to site A."""

from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db import connection
from django.test import TransactionTestCase

from platform_web.accounts import services as accounts
from platform_web.accounts.models import Role
from platform_web.audit import triggers
from platform_web.federation import founding
from platform_web.federation import services as federation
from platform_web.federation.models import Federation, ServiceIdentity, Site, TicketKey
from tests.platform_web import world
from tests.platform_web.signed import csr

PASSWORD = "correct horse battery"
_flush = TransactionTestCase._fixture_teardown


def _flush_without_triggers(self):
    """A transactional test ends by emptying every table, which the audit log rightly refuses."""
    with connection.schema_editor() as editor:
        triggers.drop(editor)
        triggers.unguard_bodies(editor)
    _flush(self)
    with connection.schema_editor() as editor:
        triggers.create(editor)
        triggers.guard_bodies(editor)


TransactionTestCase._fixture_teardown = _flush_without_triggers


@pytest.fixture(autouse=True)
def home(settings, tmp_path):
    """A CONSILIUM_HOME of the test's own."""
    settings.CONSILIUM_HOME = tmp_path / "portal"
    settings.CONSILIUM_HOME.mkdir(mode=0o700)
    return settings.CONSILIUM_HOME


@pytest.fixture(scope="session")
def founded():
    """Keys of one federation, made once: RSA keys cost a second each."""
    return {}


@pytest.fixture
def portal(db, founded):
    """A portal that is set up (rows only)."""
    if not founded:
        founding.found_federation()
        for model in (Federation, ServiceIdentity, TicketKey):
            founded[model] = list(model.objects.values())
    elif not Federation.objects.exists():
        for model, rows in founded.items():
            model.objects.bulk_create([model(**row) for row in rows])
    return Federation.objects.get()


@pytest.fixture
def person(db):
    """``person("ann", Role.AUDITOR, site=None)`` adds somebody."""

    def add(name, role, site=None):
        return accounts.add_person(
            actor=None, username=name, password=PASSWORD, role=role, site_id=site.pk if site else None
        )

    return add


@pytest.fixture
def ann(person):
    return person("ann", Role.ADMINISTRATOR)


@pytest.fixture
def otto(person):
    return person("otto", Role.AUDITOR)


@pytest.fixture
def invite(portal, ann):
    """``invite("site-a")`` adds a site and its kit; the invitation holds the link's token."""

    def add(name="site-a"):
        return federation.invite_site(actor=ann, name=name, title=f"Hospital {name}", organisation="City")

    return add


@pytest.fixture
def make_site(db):
    """``make_site("site-a")`` is a site without kit or certificate."""

    def add(name="site-a", status=Site.Status.ENROLLED):
        return Site.objects.create(name=name, title=f"Hospital {name}", organisation="City", status=status)

    return add


@pytest.fixture
def two_sites(make_site, person):
    """Site A with a clinician and an operator, site B with mallory."""
    a, b = make_site("site-a"), make_site("site-b")
    return SimpleNamespace(
        a=a,
        b=b,
        cleo=person("cleo", Role.CLINICIAN, a),
        olaf=person("olaf", Role.SITE_OPERATOR, a),
        mallory=person("mallory", Role.SITE_OPERATOR, b),
    )


@pytest.fixture
def dana(person):
    return person("dana", Role.DATA_SCIENTIST)


@pytest.fixture
def rows(portal, ann, dana, two_sites, make_site):
    """A world in which site A and site C work together and site B does not take part."""
    c = make_site("site-c")
    return world.build(ann, dana, [two_sites.a, c])


@pytest.fixture
def scientist(client, dana):
    client.force_login(dana)
    return client


@pytest.fixture
def run_form(dana, make_site):
    """What a scientist posts to start a run of three sites; the algorithm is the test's."""
    sites = [world.bring_online(make_site(name)) for name in ("site-a", "site-b", "site-c")]
    return {
        "study": world.open_study(dana).slug,
        "model": "tabular_mlp",
        "rounds": 10,
        "seed": 7,
        "min_sites": 3,
        "sites": [site.name for site in sites],
    }


@pytest.fixture(scope="session")
def site_key():
    """The key a site made; RSA keys cost time."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def enrolment(invite, site_key):
    """Site A has enrolled with its first kit."""
    return enrolled_by(invite(), site_key)


def enrolled_by(invitation, key):
    """What site A gets for ``key`` by this invitation, once its kit is built."""
    federation.record_kit_built(kit=invitation.kit, zip_sha256="0" * 64)
    asked = {"token": invitation.token, "pin": invitation.pin, "csr_pem": csr(key, "site-a")}
    return federation.enrol_site(name="site-a", **asked)
