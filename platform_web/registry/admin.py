"""Read-only look at what serves; changes go through the pages and their services."""

from django.contrib import admin

from platform_web.registry.models import ModelVersion, Promotion, SiteModel
from platform_web.training.admin import ReadOnlyAdmin


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ("label", "arm", "round", "shared_sha256", "created")
    list_filter = ("arm",)


@admin.register(SiteModel)
class SiteModelAdmin(ReadOnlyAdmin):
    list_display = ("site", "version", "personal_sha256", "proposal")
    list_filter = ("site", "proposal")


@admin.register(Promotion)
class PromotionAdmin(ReadOnlyAdmin):
    list_display = ("site", "study", "site_model", "by", "created", "withdrawn")
    list_filter = ("site", "study")
