"""An authenticator app, as a person carries it: it knows a secret and shows six digits."""

import base64
import re
from dataclasses import dataclass

from django_otp import oath

from platform_web.accounts import codes, factors

SECRET = re.compile(r'id="secret">([A-Z2-7 ]+)<')


@dataclass
class Phone:
    secret: bytes

    @classmethod
    def shown(cls, page: str) -> "Phone":
        """What a person types off the page of enrolment."""
        return cls(base64.b32decode(SECRET.search(page).group(1).replace(" ", "")))

    def code(self) -> str:
        return f"{oath.TOTP(self.secret).token():06d}"


def enrol(person) -> tuple[Phone, tuple[str, ...]]:
    """The person's new phone, whose code of this moment is used up, and the recovery codes."""
    phone = Phone(codes.new_secret())
    return phone, factors.enrol(person=person, secret=phone.secret, code=phone.code()).fresh
