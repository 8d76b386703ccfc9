"""The page between password and portal, and what a person does with their own second factor."""

from http import HTTPStatus
from typing import cast

import django_otp
from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from platform_web.accounts import codes, factors, pending, services
from platform_web.accounts.errors import AccountError
from platform_web.accounts.factors import Checked
from platform_web.accounts.models import Role, SecondFactor
from platform_web.accounts.scope import role_required
from platform_web.accounts.second_factor import factor_of, must_have_one
from platform_web.accounts.tries import closed_page

EVERYBODY = tuple(Role)


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """After the password: ask for a code, or enrol where the role needs a factor and there is none yet."""
    person = pending.person_of(request)
    if person is None or not (factor_of(person) or must_have_one(person)):
        return redirect("home" if request.user.is_authenticated else settings.LOGIN_URL)
    if (closed := closed_page(request, person)) is not None:
        return closed
    if factor_of(person) is None:
        return _enrol(request, person, signs_in=True)
    if request.method == "GET":
        return _page(request, "accounts/second_factor.html")
    checked = factors.check_code(person=person, code=_typed(request, "code"))
    if not checked.accepted:
        return _page(request, "accounts/second_factor.html", _refused(request, person, checked))
    return redirect(_sign_in(request, person))


@never_cache
@require_GET
@role_required(*EVERYBODY)
def account(request: HttpRequest) -> HttpResponse:
    person = cast("User", request.user)
    factor = factor_of(person)
    context = {"factor": factor, "needed": must_have_one(person)}
    if factor is not None:
        context["left"] = factor.recovery_codes.count()
    return render(request, "accounts/account.html", context)


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@role_required(*EVERYBODY)
def enrol_factor(request: HttpRequest) -> HttpResponse:
    """A first factor, or another phone for who has one."""
    person = cast("User", request.user)
    return closed_page(request, person) or _enrol(request, person, signs_in=False)


@never_cache
@sensitive_post_parameters()
@require_POST
@role_required(*EVERYBODY)
def remove_factor(request: HttpRequest) -> HttpResponse:
    person = cast("User", request.user)
    if (closed := closed_page(request, person)) is not None:
        return closed
    password = request.POST.get("password", "")
    if auth.authenticate(request, username=person.get_username(), password=password) is None:
        messages.error(request, _("This is not your password. The second factor is still on."))
        return redirect("account")
    try:
        checked = factors.remove(person=person, code=_typed(request, "code"))
    except AccountError as error:
        messages.error(request, str(error))
        return redirect("account")
    if checked.accepted:
        request.session.pop(django_otp.DEVICE_ID_SESSION_KEY, None)  # this session goes on, others end
        messages.success(request, _("The second factor is off: your password alone signs you in."))
    else:
        messages.error(request, _refused(request, person, checked))
    return redirect("account")


@never_cache
@sensitive_post_parameters()
@require_POST
@role_required(*EVERYBODY)
def renew_recovery_codes(request: HttpRequest) -> HttpResponse:
    person = cast("User", request.user)
    if (closed := closed_page(request, person)) is not None:
        return closed
    try:
        checked = factors.renew_codes(person=person, code=_typed(request, "code"))
    except AccountError as error:
        messages.error(request, str(error))
        return redirect("account")
    if checked.accepted:
        return _codes_page(request, checked, "account")
    messages.error(request, _refused(request, person, checked))
    return redirect("account")


@require_POST
@role_required(Role.ADMINISTRATOR)
def reset_factor(request: HttpRequest, pk: int) -> HttpResponse:
    """A colleague's, whose phone is lost."""
    person = get_object_or_404(User, pk=pk)
    try:
        factors.reset(actor=cast("User", request.user), person=person, reason=request.POST.get("reason", ""))
    except AccountError as error:
        messages.error(request, str(error))
    else:
        messages.success(
            request, _("%(name)s signs in without the lost phone now.") % {"name": person.get_username()}
        )
    return redirect("people")


def _enrol(request: HttpRequest, person: User, *, signs_in: bool) -> HttpResponse:
    """Show the secret until a code of it is typed; then the recovery codes, this once."""
    secret, said = pending.draft_secret(request, person), ""
    if request.method == "POST":
        typed, current = _typed(request, "code"), _typed(request, "current")
        try:
            checked = factors.enrol(person=person, secret=secret, code=typed, current=current)
        except AccountError as error:
            said = str(error)
        else:
            if checked.accepted:
                pending.forget_draft(request)
                target = _sign_in(request, person) if signs_in else "account"
                if not signs_in:
                    django_otp.login(request, SecondFactor.objects.get(user=person))
                return _codes_page(request, checked, target)
            said = _refused(request, person, checked)
    return _page(
        request,
        "accounts/enrol_factor.html",
        said,
        qr=codes.qr_code(secret, person.get_username()),
        secret=codes.secret_text(secret),
        signs_in=signs_in,
        moves=factor_of(person) is not None,
    )


def _sign_in(request: HttpRequest, person: User) -> str:
    """The session is the person's from here on; where it goes next."""
    backend, target = pending.end(request)
    with transaction.atomic():  # the session begins with its entry, or not at all
        services.record_sign_in(user=person)
        auth.login(request, person, backend=backend)
        django_otp.login(request, SecondFactor.objects.get(user=person))
    return target


def _refused(request: HttpRequest, person: User, checked: Checked) -> str:
    """Count a wrong code where wrong passwords are counted; the sentence that says what to do."""
    user_login_failed.send(sender=__name__, credentials={"username": person.get_username()}, request=request)
    if checked.wait_s:
        return ngettext(
            "Too many wrong codes. Wait %(count)d second and type the code that the app shows then.",
            "Too many wrong codes. Wait %(count)d seconds and type the code that the app shows then.",
            checked.wait_s,
        ) % {"count": checked.wait_s}
    return _(
        "This code is wrong or was used before. Wait for the next code of the app, or use a recovery code."
    )


def _codes_page(request: HttpRequest, checked: Checked, target: str) -> HttpResponse:
    return _page(
        request,
        "accounts/recovery_codes.html",
        codes=checked.fresh,
        target=resolve_url(target),
        shown_once=True,
    )


def _page(request: HttpRequest, template: str, said: str = "", **context: object) -> HttpResponse:
    status = HTTPStatus.UNPROCESSABLE_ENTITY if said else HTTPStatus.OK
    return render(request, template, {"said": said, **context}, status=status)


def _typed(request: HttpRequest, field: str) -> str:
    return request.POST.get(field, "")[:100]
