"""The app that holds the shell, the style sheet and the vendored scripts."""

from django.apps import AppConfig


class PagesConfig(AppConfig):
    name = "platform_web.pages"
    label = "pages"
