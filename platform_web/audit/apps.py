from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AuditConfig(AppConfig):
    name = "platform_web.audit"
    verbose_name = _("Audit log")

    def ready(self) -> None:
        from platform_web.audit import checks as checks
