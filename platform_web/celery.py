"""The Celery application: a doorbell only. What must happen stands in the outbox's rows."""

import logging
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_shutdown
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infra.settings.dev")
TRANSPORT_ALIASES["filesystem"] = "platform_web.outbox.file_transport:Transport"  # kombu's own loses workers

app = Celery("consilium")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_shutdown.connect
def leave(sender: Any, **_extra: object) -> None:
    """End the flare worker for good.

    NVFlare's session holds threads that Python waits for: a worker that ended on an error stayed there for
    minutes, its queue unserved, and no supervisor saw it.
    """
    if "nvflare" in sys.modules:
        logging.shutdown()
        os._exit(sender.exitcode or 0)
