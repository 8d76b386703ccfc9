"""Signing in and out, and the page of people."""

from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.db import transaction
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from platform_web.accounts import pending, services
from platform_web.accounts.errors import AccountError
from platform_web.accounts.forms import PersonForm
from platform_web.accounts.models import SITE_ROLES, Membership, Role
from platform_web.accounts.scope import role_required
from platform_web.accounts.second_factor import factor_of, must_have_one

UNPROCESSABLE = 422


class SignInForm(AuthenticationForm):
    """Django's own, with a sentence that says nothing about which part was wrong."""

    def get_invalid_login_error(self) -> forms.ValidationError:
        return forms.ValidationError(
            _(
                "User name and password do not belong together. Try again, or ask an administrator "
                "for a new password."
            ),
            code="invalid_login",
        )


class SignIn(LoginView):
    """Every door leads here, the admin's too."""

    template_name = "accounts/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        person = form.get_user()
        if factor_of(person) is not None or must_have_one(person):
            pending.begin(self.request, person, self.get_success_url())
            return redirect("second_factor")
        with transaction.atomic():  # the session begins with its entry, or not at all
            services.record_sign_in(user=person)
            return super().form_valid(form)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        services.record_sign_in_refused(username=form.data.get("username", "")[:150])
        return self.render_to_response(self.get_context_data(form=form), status=UNPROCESSABLE)


class SignOut(LogoutView):
    """Django's own, with an entry when there was somebody to sign out."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        with transaction.atomic():
            if request.user.is_authenticated:
                services.record_sign_out(user=request.user)
            return super().post(request, *args, **kwargs)


@require_GET
@role_required(Role.ADMINISTRATOR)
def people(request: HttpRequest) -> HttpResponse:
    memberships = Prefetch("memberships", Membership.objects.select_related("site"))
    everybody = (
        User.objects.select_related("second_factor")
        .prefetch_related("groups", memberships)
        .order_by("username")
    )
    names: dict[str, Any] = dict(Role.choices)
    rows = [
        {
            "person": person,
            "roles": [names[group.name] for group in person.groups.all() if group.name in names],
            "sites": [membership.site for membership in person.memberships.all()],
            "has_factor": hasattr(person, "second_factor"),
        }
        for person in everybody
    ]
    return render(request, "accounts/people.html", {"rows": rows})


@require_http_methods(["GET", "POST"])
@role_required(Role.ADMINISTRATOR)
def add_person(request: HttpRequest) -> HttpResponse:
    site_model: Any = Membership._meta.get_field(
        "site"
    ).remote_field.model  # accounts stands below federation
    sites = {site.name: site for site in site_model._default_manager.order_by("name")}
    form = PersonForm(
        request.POST if request.method == "POST" else None,
        sites=[(name, f"{site.title} ({name})") for name, site in sites.items()],
    )
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        site = sites.get(values["site"]) if values["role"] in SITE_ROLES else None
        try:
            person = services.add_person(
                actor=cast("User", request.user),
                username=values["username"],
                password=values["password1"],
                role=values["role"],
                site_id=site.pk if site else None,
            )
        except AccountError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("%(name)s can sign in now.") % {"name": person.username})
            return redirect("people")
    return render(
        request, "accounts/person_form.html", {"form": form}, status=UNPROCESSABLE if form.is_bound else 200
    )


@require_POST
@role_required(Role.ADMINISTRATOR)
def deactivate_person(request: HttpRequest, pk: int) -> HttpResponse:
    person = get_object_or_404(User, pk=pk)
    try:
        services.deactivate_person(actor=cast("User", request.user), person=person)
    except AccountError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%(name)s can no longer sign in.") % {"name": person.username})
    return redirect("people")
