from django.apps import AppConfig


class FederationConfig(AppConfig):
    name = "platform_web.federation"

    def ready(self) -> None:
        from platform_web.federation import checks as checks
