from datetime import timedelta

import pytest
from django.utils import timezone

from platform_web.audit.models import AuditEvent
from platform_web.federation import services
from platform_web.federation.errors import FederationError, SiteNameError, TwinAgentError
from platform_web.federation.heartbeat import Heartbeat
from platform_web.federation.models import Dataset, Kit, Site
from platform_web.outbox.models import Task

CARD = {
    "name": "cytology",
    "kind": "tabular",
    "digest": "a" * 64,
    "labels": ["b", "m"],
    "rows": 10,
    "parts": {"train": 6, "validation": 2, "test": 2},
    "label_counts": {"b": 6, "m": 4},
}


def entries():
    return list(AuditEvent.objects.order_by("number").values_list("act", flat=True))


def test_inviting_a_site_is_one_entry_and_one_promise(invite):
    before = len(entries())
    invitation = invite()
    assert entries()[before:] == ["site.invited"]
    assert Task.objects.get().arguments == {"kit_id": str(invitation.kit.pk)}
    assert not Kit.objects.filter(link_sha256=invitation.token).exists()


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "-a", "a-", "a" * 64, "a\n", "é", "../x", "server", "ops", "localhost"]
)
def test_a_malformed_or_reserved_name_is_refused_and_nothing_changes(invite, name):
    with pytest.raises(SiteNameError):
        invite(name)
    assert not Site.objects.exists()
    assert not Task.objects.exists()


def test_the_contact_is_kept_and_stands_in_no_entry(portal, ann):
    values = {"name": "site-a", "title": "A", "organisation": "City", "contact": "it@site-a.example"}
    services.invite_site(actor=ann, **values, language="zh-hans")
    assert (Site.objects.get().contact, Site.objects.get().language) == ("it@site-a.example", "zh-hans")
    assert not [row for row in AuditEvent.objects.all() if b"it@site-a" in bytes(row.leaf)]
    for wrong in ({"contact": "nobody"}, {"language": "fr"}):
        with pytest.raises(FederationError):
            services.invite_site(actor=ann, **(values | {"name": "site-b"} | wrong))


def test_a_taken_name_is_refused(invite):
    invite()
    with pytest.raises(SiteNameError, match="already"):
        invite()
    assert Site.objects.count() == 1


@pytest.mark.parametrize("field", ["title", "organisation"])
@pytest.mark.parametrize("value", ["", "  ", "x" * 300, "a\x00b"])
def test_other_fields_are_one_line(portal, ann, field, value):
    values = {"name": "site-a", "title": "A", "organisation": "City"} | {field: value}
    with pytest.raises(FederationError):
        services.invite_site(actor=ann, **values)


def test_a_nonce_works_once_per_site(make_site):
    now = timezone.now()
    a, b = make_site("site-a"), make_site("site-b")
    assert [services.use_nonce(site=site, nonce="0" * 32, now=now) for site in (a, a, b)] == [
        True,
        False,
        True,
    ]


def test_old_nonces_are_forgotten(make_site):
    site, now = make_site(), timezone.now()
    services.use_nonce(site=site, nonce="0" * 32, now=now - timedelta(hours=1))
    services.use_nonce(site=site, nonce="1" * 32, now=now)
    services.prune_nonces(now=now)
    assert not services.use_nonce(site=site, nonce="1" * 32, now=now)
    assert services.use_nonce(site=site, nonce="0" * 32, now=now)


def beat(site, **changes):
    report = Heartbeat.model_validate({"agent_version": "0.1.0", "datasets": [CARD | changes]})
    services.record_heartbeat(site=site, heartbeat=report, now=timezone.now())


def test_a_heartbeat_keeps_the_cards_and_is_audited_only_when_one_changed(make_site):
    site = make_site()
    beat(site)
    beat(site)
    assert Dataset.objects.get().label_counts == {"b": 6, "m": 4}
    assert entries().count("dataset.reported") == 1
    beat(site, digest="b" * 64, rows=12)
    assert Dataset.objects.get().rows == 12
    assert entries().count("dataset.reported") == 2


def test_a_card_that_no_longer_arrives_is_forgotten_and_that_is_audited_once(make_site):
    site = make_site()
    beat(site, label_counts={"b": None, "m": None})  # counts that stay at the site
    assert Dataset.objects.get().label_counts == {"b": None, "m": None}
    for _time in range(2):
        nothing = Heartbeat.model_validate({"agent_version": "0.1.0", "datasets": []})
        services.record_heartbeat(site=site, heartbeat=nothing, now=timezone.now())
    assert not Dataset.objects.exists()
    assert entries().count("dataset.withdrawn") == 1


def test_green_needs_nvflare_and_a_heartbeat_and_missing_says_which(make_site):
    site, now = make_site(), timezone.now()
    assert "No heartbeat" in site.missing(now)
    site.heartbeat_at = now - timedelta(seconds=29)
    assert "NVFlare" in site.missing(now)
    site.flare_seen_at = now - timedelta(seconds=14)
    assert site.is_online(now)
    assert site.missing(now) == ""
    site.heartbeat_at = now - timedelta(seconds=31)
    assert not site.is_online(now)
    assert "agent" in site.missing(now)


def test_a_site_that_nvflare_lists_is_seen(make_site):
    site = make_site()
    services.record_flare_seen(names={"site-a", "unknown"}, now=timezone.now())
    site.refresh_from_db()
    assert site.is_seen_by_flare(timezone.now())


def test_a_suspended_site_is_not_green_gets_no_kit_and_can_come_back(make_site, ann, portal):
    site = make_site()
    services.suspend_site(actor=ann, site=site)
    with pytest.raises(FederationError, match="already"):
        services.suspend_site(actor=ann, site=site)
    with pytest.raises(FederationError, match="suspended"):
        services.issue_kit(actor=ann, site=site)
    services.resume_site(actor=ann, site=site)
    assert Site.objects.get().status == Site.Status.INVITED


def speak(site, instance, moment):
    """The agent's start ``instance`` reports at ``moment``, in seconds."""
    now = timezone.now() + timedelta(seconds=moment)
    services.admit_agent(site=site, instance=instance * 32, now=now)
    Site.objects.filter(pk=site.pk).update(heartbeat_at=now)


def test_the_second_of_two_agents_is_refused_and_both_are_seen(make_site):
    site = make_site()
    speak(site, "a", 0)
    speak(site, "b", 3)  # may be the first one's restart
    speak(site, "a", 5)  # it was not
    with pytest.raises(TwinAgentError, match=r"Another agent.*Stop one"):
        speak(site, "b", 8)
    speak(site, "a", 10)
    site.refresh_from_db()
    assert site.has_twin(timezone.now())
    assert entries().count("site.twin_seen") == 1


def test_a_refused_agent_may_speak_when_the_first_one_is_silent(make_site):
    site = make_site()
    for moment, instance in enumerate("aba"):
        speak(site, instance, moment)
    with pytest.raises(TwinAgentError):
        speak(site, "b", 31)
    speak(site, "b", 33)


def test_restarts_are_not_twins(make_site):
    site = make_site()
    for moment, instance in enumerate("abcde"):
        speak(site, instance, moment)
    services.admit_agent(site=site, instance="", now=timezone.now())
    site.refresh_from_db()
    assert not site.has_twin(timezone.now())
