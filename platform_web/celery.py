"""The Celery application: a doorbell only. What must happen stands in the outbox's rows."""

import os

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infra.settings.dev")
TRANSPORT_ALIASES["filesystem"] = "platform_web.outbox.file_transport:Transport"  # kombu's own loses workers

app = Celery("consilium")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
