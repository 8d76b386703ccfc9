"""The ASGI door of both web processes; CONSILIUM_DOOR says which URLs it serves."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infra.settings.dev")

from django.conf import settings
from django.core.asgi import get_asgi_application

from platform_web.api.body_limit import BodyLimit

application = BodyLimit(get_asgi_application(), settings.CONSILIUM_MAX_BODY_BYTES)
