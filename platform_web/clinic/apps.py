from django.apps import AppConfig


class ClinicConfig(AppConfig):
    name = "platform_web.clinic"
