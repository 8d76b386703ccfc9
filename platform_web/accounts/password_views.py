"""The pages of new passwords: one's own, and a colleague's who forgot it."""

from http import HTTPStatus
from typing import cast

from django.contrib import auth, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from platform_web.accounts import passwords
from platform_web.accounts.errors import AccountError
from platform_web.accounts.forms import PasswordChangeForm, PasswordResetForm
from platform_web.accounts.models import Role
from platform_web.accounts.scope import role_required
from platform_web.accounts.tries import closed_page


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@role_required(*Role)
def change_password(request: HttpRequest) -> HttpResponse:
    """One's own. Wrong tries count as at the sign-in page; this session goes on, others end."""
    person = cast("User", request.user)
    if (closed := closed_page(request, person)) is not None:
        return closed
    form = PasswordChangeForm(request, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            passwords.change(person=person, password=form.cleaned_data["password1"])
        except AccountError as error:
            form.add_error("password1", str(error))
        else:
            auth.update_session_auth_hash(request, person)
            messages.success(request, _("Your new password counts from now on."))
            return redirect("account")
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK
    return render(request, "accounts/change_password.html", {"form": form}, status=status)


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@role_required(Role.ADMINISTRATOR)
def reset_password(request: HttpRequest, pk: int) -> HttpResponse:
    """A colleague's, who forgot it."""
    person = get_object_or_404(User, pk=pk)
    form = PasswordResetForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        values = form.cleaned_data
        try:
            passwords.reset(
                actor=cast("User", request.user),
                person=person,
                password=values["password1"],
                reason=values["reason"],
            )
        except AccountError as error:
            form.add_error(None, str(error))
        else:
            messages.success(
                request, _("%(name)s signs in with the new password now.") % {"name": person.get_username()}
            )
            return redirect("people")
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK
    return render(request, "accounts/reset_password.html", {"form": form, "person": person}, status=status)
