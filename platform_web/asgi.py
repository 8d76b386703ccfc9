"""The ASGI door of both web processes; CONSILIUM_DOOR says which URLs it serves."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "infra.settings.dev")

from django.conf import settings
from django.core.asgi import get_asgi_application

from platform_web.api.body_limit import BodyLimit

django: Any = get_asgi_application()  # django-stubs asks for a dict where ASGI says mapping
application = BodyLimit(django, settings.CONSILIUM_MAX_BODY_BYTES)
