"""Read-only look at studies and runs; changes go through the pages and their services."""

from django.contrib import admin

from platform_web.accounts.read_only_admin import ReadOnlyModelAdmin
from platform_web.training.models import Round, Run, RunJob, Study


@admin.register(Study)
class StudyAdmin(ReadOnlyModelAdmin):
    list_display = ("title", "slug", "dataset", "teaching", "created")
    search_fields = ("title", "slug")


@admin.register(Run)
class RunAdmin(ReadOnlyModelAdmin):
    list_display = ("id", "study", "algorithm", "state", "rounds", "created")
    list_filter = ("state", "algorithm", "study")


@admin.register(Round)
class RoundAdmin(ReadOnlyModelAdmin):
    list_display = ("run", "number", "committed")


@admin.register(RunJob)
class RunJobAdmin(ReadOnlyModelAdmin):
    list_display = ("run", "epoch", "start_round", "submitted", "ended", "code")
