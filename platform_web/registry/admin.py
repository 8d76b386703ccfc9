"""Read-only look at what serves; changes go through the pages and their services."""

from django.contrib import admin

from platform_web.accounts.read_only_admin import ReadOnlyModelAdmin
from platform_web.registry.models import ModelVersion, Promotion, SiteModel


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyModelAdmin):
    list_display = ("label", "arm", "round", "shared_sha256", "created")
    list_filter = ("arm",)


@admin.register(SiteModel)
class SiteModelAdmin(ReadOnlyModelAdmin):
    list_display = ("site", "version", "personal_sha256", "proposal")
    list_filter = ("site", "proposal")


@admin.register(Promotion)
class PromotionAdmin(ReadOnlyModelAdmin):
    list_display = ("site", "study", "site_model", "by", "created", "withdrawn")
    list_filter = ("site", "study")
