"""Between password and second factor: the session knows who it was, and is nobody's until the code came.

So every door is closed to a password alone by being closed to visitors; there is no list of doors to keep.
"""

import base64
import time
from typing import Any, Final

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from platform_web.accounts import codes
from platform_web.accounts.sealing import seal, unseal
from site_kits.errors import MasterKeyError

KEY: Final = "second_factor_pending"
DRAFT: Final = "second_factor_draft"
LIFETIME_S: Final = 600


def begin(request: HttpRequest, person: User, target: str) -> None:
    """``person`` has given the right password and wants to see ``target``, an address of this portal."""
    request.session.flush()  # no session known before goes on
    request.session[KEY] = {
        "person": person.pk,
        "backend": person.backend,  # set by authenticate()
        "password": person.get_session_auth_hash(),
        "until": int(time.time()) + LIFETIME_S,
        "target": target,
    }


def person_of(request: HttpRequest) -> User | None:
    """Who gave a password here within ten minutes; None when it was changed or the person deactivated."""
    held = _held(request)
    if held is None or held["until"] < time.time():
        return None
    person = User.objects.filter(pk=held["person"], is_active=True).first()
    if person is None or not constant_time_compare(held["password"], person.get_session_auth_hash()):
        return None
    return person


def end(request: HttpRequest) -> tuple[str, str]:
    """(backend, target) of what began; nothing is left of it."""
    held = request.session.pop(KEY)
    return held["backend"], held["target"]


def draft_secret(request: HttpRequest, person: User) -> bytes:
    """The secret this session offers for enrolment, sealed in its row; the same until it is used."""
    name = f"draft of a second factor of person {person.pk}"
    if text := request.session.get(DRAFT):
        try:
            return unseal(name, base64.b64decode(text))
        except MasterKeyError:  # of somebody who used this browser before
            pass
    secret = codes.new_secret()
    request.session[DRAFT] = base64.b64encode(seal(name, secret)).decode()
    return secret


def forget_draft(request: HttpRequest) -> None:
    request.session.pop(DRAFT, None)


def _held(request: HttpRequest) -> dict[str, Any] | None:
    held: dict[str, Any] | None = request.session.get(KEY)
    return held
