from django.apps import AppConfig


class FederationConfig(AppConfig):
    name = "platform_web.federation"
