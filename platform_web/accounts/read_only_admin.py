"""The admin shows rows and offers actions that call services; it never edits a row itself."""

from typing import Any

from django.http import HttpRequest
from unfold.admin import ModelAdmin

from platform_web.accounts.models import Role
from platform_web.accounts.scope import has_role


class ReadOnlyModelAdmin(ModelAdmin):
    """Rows to look at, for administrators (they alone are staff); nobody adds, changes or deletes here."""

    actions_on_top = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return has_role(request.user, Role.ADMINISTRATOR)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return has_role(request.user, Role.ADMINISTRATOR)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False
