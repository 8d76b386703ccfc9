"""What workers do for sites: build kits, look who is registered with NVFlare, forget old nonces."""

import logging

from celery import shared_task
from django.utils import timezone

from platform_web.federation import allow_list, kit_files, services
from platform_web.federation.errors import FlareRefusedError, FlareUnavailableError
from platform_web.federation.flare_gateway import gateway
from platform_web.federation.models import Kit

log = logging.getLogger(__name__)


def build_kit(*, kit_id: str) -> None:
    """Outbox handler; done twice is done once."""
    kit_files.build_kit(Kit.objects.select_related("site").get(pk=kit_id))


def write_allow_list() -> None:
    """Outbox handler: what counts now, whatever it was when this was promised."""
    allow_list.write()


@shared_task(name="federation.poll_flare")
def poll_flare() -> None:
    """Mark the sites that are registered with the NVFlare server now."""
    try:
        names = gateway().online_sites()
    except (FlareUnavailableError, FlareRefusedError) as error:
        log.info("sites are not looked at: %s", error)
        return
    services.record_flare_seen(names=names, now=timezone.now())


@shared_task(name="federation.prune_nonces")
def prune_nonces() -> None:
    """Housekeeping."""
    services.prune_nonces(now=timezone.now())
