"""Who needs a second factor, who has one, and who has given it in this session."""

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from platform_web.accounts.models import Role, SecondFactor
from platform_web.accounts.scope import AnyUser

PRIVILEGED = (Role.ADMINISTRATOR, Role.AUDITOR)
GATE = "platform_web.accounts.middleware.SecondFactorGate"


def is_asked_for() -> bool:
    """Whether this portal lets no administrator or auditor in without one."""
    return settings.CONSILIUM_SECOND_FACTOR == "required" and GATE in settings.WEB_MIDDLEWARE


def must_have_one(person: AnyUser) -> bool:
    """By role, and whoever Django's admin would let in; by groups, so that a second role frees nobody."""
    if settings.CONSILIUM_SECOND_FACTOR != "required" or person.pk is None:
        return False
    return _privileged().filter(pk=person.pk).exists()


def factor_of(person: AnyUser) -> SecondFactor | None:
    found: SecondFactor | None = SecondFactor.objects.filter(user_id=person.pk).first()
    return found


def is_given(user: AnyUser) -> bool:
    """Whether the session of ``user`` (as django-otp's middleware leaves it) has all it needs."""
    if getattr(user, "otp_device", None) is not None:
        return True
    return factor_of(user) is None and not must_have_one(user)


def people_with_a_password_alone() -> tuple[int, int]:
    """(without, all): active administrators and auditors who have not enrolled a second factor, and all."""
    people = _privileged()
    return people.filter(second_factor=None).count(), people.count()


def _privileged() -> QuerySet[User]:
    privileged = Q(groups__name__in=PRIVILEGED) | Q(is_staff=True) | Q(is_superuser=True)
    return User.objects.filter(privileged, is_active=True).distinct()
