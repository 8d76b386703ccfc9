"""What agents say: each nonce once, heartbeats, the cards of data sets."""

from datetime import datetime, timedelta

from django.db import transaction

from platform_web.audit import services as audit
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
