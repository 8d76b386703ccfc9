from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = "platform_web.outbox"
