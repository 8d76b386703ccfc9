from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OutboxConfig(AppConfig):
    name = "platform_web.outbox"
    verbose_name = _("Portal work")
