"""The content policy of /admin/ (unfold's Alpine evaluates strings), and the gate of the second factor."""

from collections.abc import Callable

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.contrib import auth, messages
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _
from django_otp import DEVICE_ID_SESSION_KEY

from platform_web.accounts import services
from platform_web.accounts.second_factor import is_given

ADMIN = "/admin/"


class AdminContentPolicy:
    """Relaxes scripts and styles below /admin/ and nowhere else."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.path_info.startswith(ADMIN):
            response._csp_replace = {  # type: ignore[attr-defined]
                "script-src": [SELF, UNSAFE_EVAL, UNSAFE_INLINE],
                "style-src": [SELF, UNSAFE_INLINE],
            }
        return response


class SecondFactorGate:
    """Ends a session that lacks a second factor which its person has or must have.

    Sign-in makes no such session. One is there when the factor came after it: enrolled elsewhere, reset by an
    administrator, or asked for by the portal from today on. Whatever the door, the admin's too, it opens to
    nobody else.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        was_given = DEVICE_ID_SESSION_KEY in request.session  # django-otp forgets a factor that is gone
        if request.user.is_authenticated and not self._may_go_on(request, was_given=was_given):
            with transaction.atomic():
                services.record_sign_out(user=request.user)
                auth.logout(request)
            messages.info(request, _("Your second factor has changed or is needed now. Sign in again."))
            return redirect_to_login(request.get_full_path())
        return self.get_response(request)

    def _may_go_on(self, request: HttpRequest, *, was_given: bool) -> bool:
        if was_given and getattr(request.user, "otp_device", None) is None:
            return False
        return is_given(request.user)
