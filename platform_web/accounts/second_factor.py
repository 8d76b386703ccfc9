"""The second factor of people who may do more than look. This portal has none: it signs in by password."""

from django.contrib.auth.models import User

from platform_web.accounts.models import Role

PRIVILEGED = (Role.ADMINISTRATOR, Role.AUDITOR)


def people_with_a_password_alone() -> tuple[int, int]:
    """(without, all): active administrators and auditors."""
    people = User.objects.filter(is_active=True, groups__name__in=PRIVILEGED).distinct().count()
    return people, people
