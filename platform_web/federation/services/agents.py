"""What agents say: each nonce once, heartbeats, the cards of data sets."""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation.errors import TwinAgentError
from platform_web.federation.heartbeat import Heartbeat
from platform_web.federation.models import AgentNonce, Dataset, Site

NONCE_LIFETIME = timedelta(minutes=10)  # the signature's window is ±2 minutes


@transaction.atomic
def use_nonce(*, site: Site, nonce: str, now: datetime) -> bool:
    """Whether this is the nonce's first use; the unique pair decides between two at the same time."""
    return AgentNonce.objects.get_or_create(site=site, nonce=nonce, defaults={"used_at": now})[1]


@transaction.atomic
def prune_nonces(*, now: datetime) -> None:
    """Forget nonces whose requests would be refused for their time anyway."""
    AgentNonce.objects.filter(used_at__lt=now - NONCE_LIFETIME).delete()


def admit_agent(*, site: Site, instance: str, now: datetime) -> None:
    """Let one start of the agent speak for the site. Raises TwinAgentError for the second of two.

    A start that was never heard takes over: the agent was restarted or moved. If the one it replaced is
    heard again within the time of a heartbeat, both live: the older keeps the site and the newcomer is
    refused until the older has been silent for 30 seconds. Agents that name no start are not watched.
    """
    with transaction.atomic():
        held = Site.objects.select_for_update().get(pk=site.pk)
        if instance in ("", held.agent_instance):
            return
        is_refused = instance == held.agent_refused and held.has_heartbeat(now)
        if is_refused:
            held.twin_seen_at = now
        elif instance == held.agent_displaced and held.has_heartbeat(now):
            held.agent_instance, held.agent_refused, held.agent_displaced = instance, held.agent_instance, ""
            held.twin_seen_at = now
            audit.record(act="site.twin_seen", site=site.name, obj=[("site", site.name, "")], out="deny")
        else:
            held.agent_instance, held.agent_displaced = instance, held.agent_instance
        fields = ("agent_instance", "agent_displaced", "agent_refused", "twin_seen_at")
        Site.objects.filter(pk=site.pk).update(**{name: getattr(held, name) for name in fields})
    if is_refused:
        raise TwinAgentError(
            _(
                "Another agent with this site's key and certificate is at work, so this one is refused. Stop "
                "one of the two; if nobody here started a second one, tell the administrator now."
            )
        )


@transaction.atomic
def record_heartbeat(*, site: Site, heartbeat: Heartbeat, now: datetime) -> None:
    """Keep what the agent says and the counts of its data sets. Audited only when a data set changed."""
    report = heartbeat.model_dump(mode="json", exclude={"datasets"})
    Site.objects.filter(pk=site.pk).update(
        heartbeat_at=now, heartbeat=report, inference_url=heartbeat.inference.url
    )
    known = dict(Dataset.objects.filter(site=site).values_list("name", "digest"))
    changed = [card for card in heartbeat.datasets if known.get(card.name) != card.digest]
    for card in heartbeat.datasets:
        values = card.model_dump(mode="json", exclude={"name"}) | {"reported_at": now}
        Dataset.objects.update_or_create(site=site, name=card.name, defaults=values)
    if changed:
        audit.record(
            act="dataset.reported",
            site=site.name,
            obj=[("dataset", card.name, card.digest) for card in changed[:20]],
            data={"rows": sum(card.rows for card in changed), "datasets": len(changed)},
        )
    if withdrawn := known.keys() - {card.name for card in heartbeat.datasets}:
        Dataset.objects.filter(site=site, name__in=withdrawn).delete()
        audit.record(
            act="dataset.withdrawn",
            site=site.name,
            obj=[("dataset", name, known[name]) for name in sorted(withdrawn)[:20]],
            data={"datasets": len(withdrawn)},
        )
