"""Who sees which rows: the one choke point.

A model that belongs to a site says how to reach it::

    class Dataset(models.Model):
        site_path: ClassVar[str] = "site"
        objects = ScopedManager()

and every page reads ``Dataset.objects.for_user(request.user)``. A model whose rows are a talk between a site
and one person also declares ``owner_path``, the way to that person: then administrators, the person and the
site's own people see a row, and nobody else.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Self, TypeVar, cast

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _

from platform_web.accounts.models import SITE_ROLES, Membership, Role

M = TypeVar("M", bound=models.Model)
AnyUser = AbstractBaseUser | AnonymousUser
View = Callable[..., HttpResponseBase]


def role_of(user: AnyUser) -> Role | None:
    """The person's role; None for visitors, inactive people and people without one. Read once per request."""
    if not user.is_authenticated or not user.is_active:
        return None
    cached = getattr(user, "_consilium_role", "")
    if cached == "":
        names = cast("User", user).groups.filter(name__in=Role.values).values_list("name", flat=True)
        found = [Role(name) for name in names]
        cached = found[0] if len(found) == 1 else None  # two roles are none: separation of duties
        user._consilium_role = cached  # type: ignore[attr-defined]
    return cast("Role | None", cached)


def has_role(user: AnyUser, *roles: Role) -> bool:
    """Whether the person has one of ``roles``."""
    return role_of(user) in roles


def sees_all_sites(user: AnyUser) -> bool:
    """Administrators, data scientists and auditors do; operators and clinicians see their own."""
    role = role_of(user)
    return role is not None and role not in SITE_ROLES


class ScopedQuerySet(models.QuerySet[M]):
    def for_user(self, user: AnyUser) -> Self:
        """The rows this person may see; none for visitors and people without a role."""
        path = getattr(self.model, "site_path", None)
        if not path:
            raise ImproperlyConfigured(f"{self.model.__name__} must declare site_path to be shown to people.")
        owner = getattr(self.model, "owner_path", None)
        if owner and role_of(user) in {Role.DATA_SCIENTIST, Role.AUDITOR}:
            return self.filter(**{owner: user})
        if sees_all_sites(user):
            return self.all()
        if role_of(user) is None:
            return self.none()
        sites = Membership.objects.filter(user=cast("User", user)).values("site_id")
        seen = self.model._base_manager.filter(**{f"{path}__in": sites}).values("pk")
        return self.filter(pk__in=seen)  # a subquery, so that a path over many rows doubles nothing


ScopedManager = models.Manager.from_queryset(ScopedQuerySet)


def role_required(*roles: Role) -> Callable[[View], View]:
    """A view for ``roles`` only: visitors are sent to sign in, others get the 403 page."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            require_role(request, *roles)
            return view(request, *args, **kwargs)

        guarded.allowed_roles = roles  # type: ignore[attr-defined]  # read by the test over the URL table
        return guarded

    return decorate


def require_role(request: HttpRequest, *roles: Role) -> None:
    """Raise PermissionDenied, with a sentence, unless the signed-in person has one of ``roles``."""
    if not has_role(request.user, *roles):
        wanted = ", ".join(str(role.label) for role in roles)
        raise PermissionDenied(_("This page is for: %(roles)s. Ask an administrator.") % {"roles": wanted})


class RoleRequiredMixin:
    """The same for class-based views: set ``allowed_roles``."""

    allowed_roles: tuple[Role, ...] = ()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        require_role(request, *self.allowed_roles)
        return cast("HttpResponseBase", super().dispatch(request, *args, **kwargs))  # type: ignore[misc]
