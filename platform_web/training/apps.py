from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "platform_web.training"
