from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FederationConfig(AppConfig):
    name = "platform_web.federation"
    verbose_name = _("Federation")

    def ready(self) -> None:
        from platform_web.federation import checks as checks
