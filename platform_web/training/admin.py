"""Read-only look at studies and runs; changes go through the pages and their services."""

from django.contrib import admin
from unfold.admin import ModelAdmin

from platform_web.training.models import Round, Run, Study


class ReadOnlyAdmin(ModelAdmin):
    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


@admin.register(Study)
class StudyAdmin(ReadOnlyAdmin):
    list_display = ("title", "slug", "dataset", "teaching", "created")
    search_fields = ("title", "slug")


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ("id", "study", "algorithm", "state", "rounds", "created")
    list_filter = ("state", "algorithm", "study")


@admin.register(Round)
class RoundAdmin(ReadOnlyAdmin):
    list_display = ("run", "number", "committed")
