"""Every URL of the portal for every role. A URL without a row here fails; site B never sees what is A's."""

import uuid

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from platform_web.accounts.models import Role
from platform_web.audit.models import AuditEvent, AuditRedaction
from platform_web.federation.models import Revocation, Site
from platform_web.registry.models import EvidencePack, SiteModel
from platform_web.training import services as training

OK, AWAY, NO, NONE, BAD = 200, 302, 403, 404, 422
# URL name: (method, {role: status}); "a" roles belong to site A, "b" roles to site B
READERS = {
    "administrator": OK,
    "data_scientist": OK,
    "auditor": OK,
    "site_operator a": OK,
    "site_operator b": OK,
}
EVERYBODY = READERS | {"clinician a": OK, "clinician b": OK}
OWN = READERS | {"site_operator b": NONE}
TABLE = {
    "home": ("get", READERS | {"clinician a": AWAY, "clinician b": AWAY}),
    "people": ("get", {"administrator": OK}),
    "add_person": ("post", {"administrator": BAD}),
    "deactivate_person": ("post", {"administrator": AWAY}),
    "reset_factor": ("post", {"administrator": AWAY}),
    "reset_password": ("post", {"administrator": BAD}),
    "change_password": ("post", dict.fromkeys(EVERYBODY, BAD)),
    "account": ("get", EVERYBODY),
    "enrol_factor": ("get", EVERYBODY),
    "remove_factor": ("post", dict.fromkeys(EVERYBODY, AWAY)),
    "renew_recovery_codes": ("post", dict.fromkeys(EVERYBODY, AWAY)),
    "sites": ("get", READERS),
    "site_cards": ("get", READERS),
    "site_status": ("get", READERS),
    "add_site": ("post", {"administrator": BAD}),
    "site": ("get", OWN),
    "new_kit": ("post", {"administrator": OK}),
    "suspend_site": ("post", {"administrator": AWAY}),
    "resume_site": ("post", {"administrator": AWAY}),
    "request_revocation": ("post", {"administrator": AWAY}),
    "confirm_revocation": ("post", {"administrator": AWAY}),
    "withdraw_revocation": ("post", {"administrator": AWAY}),
    "studies": ("get", READERS),
    "add_study": ("post", {"data_scientist": BAD}),
    "study": ("get", OWN),
    "runs": ("get", READERS),
    "add_run": ("get", {"data_scientist": OK}),
    "run": ("get", OWN),
    "run_live": ("get", OWN),
    "run_data": ("get", OWN),
    "start_with_approved": ("post", {"administrator": AWAY, "data_scientist": AWAY}),
    "stop_run": ("post", {"administrator": AWAY, "data_scientist": AWAY}),
    "answer_question": ("post", {"administrator": AWAY, "data_scientist": AWAY}),
    "models": ("get", READERS),
    "evidence": ("get", {"administrator": OK, "auditor": OK}),
    "download_evidence": ("get", {"administrator": AWAY, "auditor": AWAY}),
    "promote": ("post", {"administrator": AWAY}),
    "withdraw": ("post", {"administrator": AWAY}),
    "clinic": ("get", {"clinician a": OK, "clinician b": OK}),
    "ticket": ("post", {"clinician a": OK, "clinician b": NONE}),
    "audit": ("get", {"administrator": OK, "auditor": OK}),
    "verify_audit": ("post", {"administrator": OK, "auditor": OK}),
    "audit_entry": ("get", {"administrator": OK, "auditor": OK}),
    "audit_entry_file": ("get", {"administrator": OK, "auditor": OK}),
    "audit_proof": ("get", {"administrator": NONE, "auditor": NONE}),  # nothing is signed in this world
    "audit_policy": ("get", {"administrator": NONE, "auditor": NONE}),
    "audit_verifier": ("get", {"administrator": OK, "auditor": OK}),
    "audit_bundle": ("get", {"administrator": AWAY, "auditor": AWAY}),
    "verify_entry": ("post", {"administrator": OK, "auditor": OK}),
    "request_redaction": ("post", {"administrator": AWAY, "auditor": AWAY}),
    "close_redaction": ("post", {"administrator": AWAY, "auditor": AWAY}),
}
# doors without rows of their own, each with the test that looks at it
ELSEWHERE = {
    "health": "says nothing to anybody",
    "set_language": "Django's; changes the visitor's cookie only",
    "login": "test_signing_in.py",
    "second_factor": "test_second_factor.py of accounts",
    "logout": "test_signing_in.py",
    "admin_login": "test_signing_in.py",
    "admin_logout": "the same view as logout, at the admin's address",
    "admin_password": "leads to change_password",
    "kit": "public by its one-time token: test_sites_pages.py",
}
ROLES = [
    "administrator",
    "data_scientist",
    "auditor",
    "site_operator a",
    "site_operator b",
    "clinician a",
    "clinician b",
]


def names(patterns=None):
    """Names of all URLs but the admin's, whose doors are tested below as one."""
    for pattern in patterns or get_resolver().url_patterns:
        if isinstance(pattern, URLResolver):
            assert pattern.app_name == "admin", f"{pattern} needs rows in this table"
        elif isinstance(pattern, URLPattern):
            yield pattern.name


@pytest.fixture
def people(ann, dana, otto, two_sites, person):
    return {
        "administrator": ann,
        "data_scientist": dana,
        "auditor": otto,
        "site_operator a": two_sites.olaf,
        "site_operator b": two_sites.mallory,
        "clinician a": two_sites.cleo,
        "clinician b": person("clara", Role.CLINICIAN, two_sites.b),
    }


@pytest.fixture
def waiting(rows, people):
    """A revocation of site A that waits for a second administrator."""
    site = Site.objects.get(name="site-a")
    return Revocation.objects.create(
        site=site, reason="a laptop was lost", requested_by=people["administrator"]
    )


def asked_pack(version, person):
    """An evidence pack that is not made yet."""
    now = timezone.now()
    return EvidencePack.objects.create(version=version, language="en", asked=now, asked_by=person)


def log_paths(entry, asking):
    """The addresses of the log and of one of its entries, whose body somebody asked to erase."""
    asked = AuditRedaction.objects.create(event_id=entry, basis="misplaced", requested_by=asking)
    return {
        "audit": "/audit/",
        "verify_audit": "/audit/verify/",
        "audit_entry": f"/audit/{entry}/",
        "audit_entry_file": f"/audit/{entry}/entry.json",
        "audit_proof": f"/audit/{entry}/proof.txt",
        "audit_policy": "/audit/policy.txt",
        "audit_verifier": "/audit/verifiers/verify.py",
        "audit_bundle": "/audit/bundle/",
        "verify_entry": f"/audit/{entry}/verify/",
        "request_redaction": f"/audit/{entry}/redaction/",
        "close_redaction": f"/redactions/{asked.pk}/",
    }


@pytest.fixture
def paths(rows, people, waiting):
    """The address of what belongs to site A, for every name."""
    model = SiteModel.objects.filter(site__name="site-a", version__run=rows.done).first()
    asked = asked_pack(model.version, people["auditor"])
    run, promotion = f"/runs/{rows.running.pk}/", rows.promotions[0]
    return log_paths(AuditEvent.objects.first().event_id, people["data_scientist"]) | {
        "home": "/",
        "people": "/people/",
        "add_person": "/people/add/",
        **account_paths(people["data_scientist"]),
        "sites": "/sites/",
        "site_cards": "/sites/cards/",
        "site_status": "/sites/status.json",
        "add_site": "/sites/add/",
        "site": "/sites/site-a/",
        "new_kit": "/sites/site-a/kit/",
        "suspend_site": "/sites/site-a/suspend/",
        "resume_site": "/sites/site-a/resume/",
        "request_revocation": "/sites/site-a/revocation/",
        "confirm_revocation": f"/revocations/{waiting.pk}/confirm/",
        "withdraw_revocation": f"/revocations/{waiting.pk}/withdraw/",
        "studies": "/studies/",
        "add_study": "/studies/add/",
        "study": f"/studies/{rows.study.slug}/",
        "runs": "/runs/",
        "add_run": f"/runs/add/?study={rows.study.slug}",
        "run": run,
        "run_live": f"{run}live/",
        "run_data": f"{run}data.json",
        "start_with_approved": f"{run}start-with-approved/",
        "stop_run": f"{run}stop/",
        "answer_question": f"/questions/{asked_question(rows).pk}/answer/",
        "models": "/models/",
        "evidence": f"/models/{model.version_id}/evidence/",
        "download_evidence": f"/evidence/{asked.pk}/",
        "promote": f"/site-models/{model.pk}/promote/",
        "withdraw": f"/promotions/{promotion.pk}/withdraw/",
        "clinic": "/clinic/",
        "ticket": "/clinic/ticket/",
    }


def account_paths(person):
    return {
        "deactivate_person": f"/people/{person.pk}/deactivate/",
        "reset_factor": f"/people/{person.pk}/second-factor/reset/",
        "reset_password": f"/people/{person.pk}/password/",
        "account": "/account/",
        "change_password": "/account/password/",
        "enrol_factor": "/account/second-factor/",
        "remove_factor": "/account/second-factor/off/",
        "renew_recovery_codes": "/account/recovery-codes/",
    }


def asked_question(rows):
    """Site A wants to know something about the running run."""
    site, run = Site.objects.get(name="site-a"), rows.running
    return training.record_question(
        site=site, run_id=str(run.pk), run_digest=run.run_digest, question_id=uuid.uuid4(), text="Why?"
    )


def ask(client, name, path, rows):
    method, _expected = TABLE[name]
    sent = {"promotion": str(rows.promotions[0].pk)} if name == "ticket" else {}
    return getattr(client, method)(path, sent)


def test_every_url_has_a_row():
    known = set(names())
    assert known - set(TABLE) - set(ELSEWHERE) == set(), "give each new URL a row in TABLE"
    assert set(TABLE) - known == set(), "these rows name URLs that are gone"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_exactly_what_the_table_says(client, paths, people, rows, role):
    client.force_login(people[role])
    # the own deactivation would end the walk; changes of state come last
    order = sorted(TABLE, key=lambda name: (TABLE[name][0] == "post", name == "deactivate_person"))
    got = {name: ask(client, name, paths[name], rows).status_code for name in order}
    assert got == {name: TABLE[name][1].get(role, NO) for name in order}


def test_a_visitor_is_sent_to_sign_in_everywhere(client, paths, rows):
    for name, path in paths.items():
        answer = ask(client, name, path, rows)
        assert answer.status_code == AWAY, name
        assert answer.url.startswith("/accounts/login/"), name


@pytest.mark.parametrize("role", ["site_operator b", "clinician b"])
def test_nothing_of_site_a_is_named_on_any_page_of_site_b(client, paths, people, rows, role):
    client.force_login(people[role])
    for name, path in paths.items():
        if TABLE[name][0] == "get":
            text = client.get(path, follow=True).content.decode()
            assert "Hospital site-a" not in text, name
            assert ">site-a<" not in text, name


def test_an_operator_of_a_sees_a_and_not_its_partner(client, paths, people, rows):
    client.force_login(people["site_operator a"])
    answer = client.get(f"/runs/{rows.done.pk}/data.json").json()
    sites = {row["site"] for version in answer["versions"] for row in version["site_models"]}
    assert sites == {"site-a"}
    assert {site for row in answer["rounds"] for site in row["sites"]} == {"site-a"}
    page = client.get(f"/runs/{rows.done.pk}/").content.decode()
    assert "Hospital site-c" not in page


def test_a_person_with_two_roles_has_none(client, ann, dana, paths):
    dana.groups.add(ann.groups.first())
    client.force_login(dana)
    assert client.get("/sites/").status_code == NO


@pytest.mark.parametrize("role", ROLES[1:])
def test_the_admin_is_closed_to_all_but_administrators(client, people, portal, role):
    client.force_login(people[role])
    for path in ("/admin/", "/admin/federation/site/", "/admin/auth/user/", "/admin/audit/auditevent/"):
        assert client.get(path).status_code in {AWAY, NO, NONE}, path


def test_unknown_things_are_not_found(client, ann, portal):
    client.force_login(ann)
    for path in (
        "/sites/nobody/",
        f"/runs/{uuid.uuid4()}/",
        "/studies/none/",
        f"/audit/{uuid.uuid4()}/",
        "/nowhere/",
    ):
        assert client.get(path).status_code == NONE, path
    assert Site.objects.count() == 0
