"""Every door behind which something is done writes an entry. A new URL without a case fails here."""

import pytest
from django.contrib import admin
from django.test import Client, override_settings
from django.urls import URLPattern, URLResolver, get_resolver

from platform_web.audit.models import AuditEvent
from tests.platform_web import protected_acts, protected_world

# doors that do nothing: each refuses POST, or has the reason why it needs no entry of its own
READS = {
    "home", "health", "people", "account", "sites", "site_cards", "site_status", "site", "studies", "study",
    "runs", "run", "run_live", "run_data", "models", "clinic", "admin_login", "agent-request",
    "agent-answers", "log-checkpoint", "log-entries", "log-receipt", "log-inclusion", "log-recount",
    "admin:login", "admin:index", "admin:app_list", "admin:jsi18n", "admin:password_change_done",
    "admin:search", "audit_verifier", "audit_policy", "admin:autocomplete", "admin:view_on_site",
}  # fmt: skip
NO_ENTRY = {
    "admin:logout": "the address is taken by admin_logout, which stands before it",
    "admin:password_change": "the address is taken by admin_password, which stands before it",
    "admin_password": "leads to change_password",
    "set_language": "changes the visitor's cookie",
    "log-cosignatures": "an entry would make a new head, which asks for new cosignatures, without end",
}


def urls(urlconf, prefix=""):
    for pattern in get_resolver(urlconf).url_patterns if isinstance(urlconf, str) else urlconf:
        if isinstance(pattern, URLResolver):
            yield from urls(pattern.url_patterns, f"{pattern.namespace}:" if pattern.namespace else prefix)
        elif isinstance(pattern, URLPattern):
            yield f"{prefix}{pattern.name}"


def actions():
    for model, pages in admin.site._registry.items():
        for name in pages.actions or ():
            if name != "delete_selected":
                yield f"admin:{model._meta.app_label}_{model._meta.model_name} {name}"


def rows_of_the_admin():
    """Four pages a table, all of which only show: nobody adds, changes or deletes there."""
    for model in admin.site._registry:
        for page in ("changelist", "add", "history", "delete", "change"):
            yield f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"


# on PostgreSQL the sequencer sees only what was committed
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def at(db, site_key, home):
    return protected_world.build(site_key)


def test_every_door_has_its_case(at):
    known = {*urls("platform_web.urls"), *urls("platform_web.agent_urls"), *actions()}
    cases = {act.url for act in protected_acts.acts(at)}
    assert known - cases - READS - set(NO_ENTRY) - set(rows_of_the_admin()) - {"admin:None"} == set()
    assert (READS | set(NO_ENTRY)) - known == set(), "these are gone"


def test_every_act_writes_an_entry(at):
    silent = {}
    for act in protected_acts.acts(at):
        before = AuditEvent.objects.count()
        answer = act.send()
        is_without_signer = (
            act.url == "log-anchors"
        )  # none runs here: the entry is there, the receipt not yet
        if AuditEvent.objects.count() == before or (answer.status_code >= 500 and not is_without_signer):
            silent[act.url] = answer.status_code
        answer.close()
    assert silent == {}


def test_what_only_reads_does_nothing_when_something_is_posted(at):
    before = AuditEvent.objects.exclude(act="request.denied").count()
    client = at.clients["ann-1"]
    for name in READS - {"admin_login"}:
        if not name.startswith(("admin:", "agent-", "log-", "s", "run", "st")):
            assert client.post("/" if name == "home" else f"/{name}/").status_code in {404, 405}, name
    for path in ("/audit/v1/checkpoint", "/audit/v1/entries", "/agent/v1/requests/x"):
        assert protected_acts.at_agents_door("POST", path, b"{}").status_code in {404, 405}
    assert AuditEvent.objects.exclude(act="request.denied").count() == before


def test_what_a_person_may_not_do_is_an_entry_too(at):
    client = at.clients["otto-1"]
    assert client.post("/people/add/", {}).status_code == 403
    entry = AuditEvent.objects.latest("number")
    assert (entry.act, entry.actor) == ("request.denied", f"user:{at.otto.pk}")
    with override_settings(LANGUAGE_CODE="en"):
        Client().post("/people/add/", {})
    assert AuditEvent.objects.latest("number") == entry, "a visitor is sent to sign in; that is no act"
