"""Sites, kits, certificates and promised work in the admin: state is read-only, actions call services."""

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from platform_web.accounts.read_only_admin import ReadOnlyModelAdmin
from platform_web.federation import services
from platform_web.federation.errors import FederationError
from platform_web.federation.models import (
    Certificate,
    Dataset,
    Federation,
    Kit,
    Revocation,
    ServiceIdentity,
    Site,
)
from platform_web.outbox.models import Task

Sites = QuerySet[Site]


@admin.register(Site)
class SiteAdmin(ReadOnlyModelAdmin):
    list_display = ("name", "title", "organisation", "zone", "status", "is_green", "what_is_missing")
    list_filter = ("status", "zone")
    search_fields = ("name", "title", "organisation")
    fields = (
        "name",
        "title",
        "organisation",
        "zone",
        "contact",
        "language",
        "status",
        "flare_seen_at",
        "heartbeat_at",
        "inference_url",
        "heartbeat",
        "created",
    )
    actions = ("suspend", "resume")

    @display(description=_("online"), boolean=True)
    def is_green(self, site: Site) -> bool:
        return site.is_online(timezone.now())

    @display(description=_("missing"))
    def what_is_missing(self, site: Site) -> str:
        return site.missing(timezone.now())

    @admin.action(description=_("Suspend: agent and inference are refused"))
    def suspend(self, request: HttpRequest, queryset: Sites) -> None:
        self._each(request, queryset, services.suspend_site)

    @admin.action(description=_("Resume"))
    def resume(self, request: HttpRequest, queryset: Sites) -> None:
        self._each(request, queryset, services.resume_site)

    def _each(self, request: HttpRequest, queryset: Sites, service: Callable[..., None]) -> None:
        for site in queryset:
            try:
                service(actor=request.user, site=site)
            except FederationError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, _t("Done: %(site)s") % {"site": site}, messages.SUCCESS)


@admin.register(Kit)
class KitAdmin(ReadOnlyModelAdmin):
    list_display = (
        "site",
        "created",
        "link_expires",
        "built_at",
        "fetched_at",
        "enrolled_at",
        "pin_failures",
        "locked_at",
        "revoked_at",
        "error",
    )
    list_filter = ("site",)
    exclude = ("link_sha256", "pin_hash")


@admin.register(Certificate)
class CertificateAdmin(ReadOnlyModelAdmin):
    list_display = ("site", "serial", "not_before", "not_after", "replaced_at", "revoked_at")
    list_filter = ("site",)


@admin.register(Revocation)
class RevocationAdmin(ReadOnlyModelAdmin):
    list_display = ("site", "reason", "requested_by", "requested_at", "confirmed_at", "withdrawn_at")
    list_filter = ("site",)


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyModelAdmin):
    list_display = ("site", "name", "kind", "rows", "reported_at")
    list_filter = ("kind", "site")


@admin.register(Federation)
class FederationAdmin(ReadOnlyModelAdmin):
    list_display = ("name", "server_name", "flare_host", "flare_port", "agents_url")
    exclude = ("root_key_sealed", "key_check")


@admin.register(ServiceIdentity)
class ServiceIdentityAdmin(ReadOnlyModelAdmin):
    list_display = ("name", "role", "created")
    exclude = ("key_sealed",)


@admin.register(Task)
class TaskAdmin(ReadOnlyModelAdmin):
    list_display = ("name", "queue", "created", "attempts", "finished", "failed", "last_error")
    list_filter = ("name", "queue")
