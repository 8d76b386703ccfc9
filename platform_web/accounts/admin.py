"""People in the admin. Django's own pages for users and groups are taken away: they would not be audited."""

from typing import cast

from django.contrib import admin, messages
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from platform_web.accounts import services
from platform_web.accounts.errors import AccountError
from platform_web.accounts.models import Membership
from platform_web.accounts.read_only_admin import ReadOnlyModelAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PersonAdmin(ReadOnlyModelAdmin):
    list_display = ("username", "role", "is_active", "last_login")
    list_filter = ("groups", "is_active")
    search_fields = ("username",)
    fields = ("username", "groups", "is_active", "last_login", "date_joined")
    actions = ("deactivate",)

    @admin.display(description=_("role"))
    def role(self, person: User) -> str:
        return ", ".join(group.name for group in person.groups.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return cast("QuerySet[User]", super().get_queryset(request).prefetch_related("groups"))

    @admin.action(description=_("Deactivate: they can no longer sign in"))
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for person in queryset:
            try:
                services.deactivate_person(actor=cast("User", request.user), person=person)
            except AccountError as error:
                self.message_user(request, str(error), messages.ERROR)


@admin.register(Membership)
class MembershipAdmin(ReadOnlyModelAdmin):
    list_display = ("user", "site", "created")
    list_filter = ("site",)
