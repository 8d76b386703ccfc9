"""Checks of the portal: who gets in, what its keys are sealed with, whether its certificates are in life."""

from datetime import timedelta

from cryptography import x509
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.utils.translation import gettext as _

from platform_web.accounts.models import Role
from platform_web.accounts.second_factor import is_asked_for, people_with_a_password_alone
from platform_web.federation.authority import open_root, the_federation
from platform_web.federation.models import Certificate, Site
from platform_web.registry.evidence.case import Case
from platform_web.registry.evidence.control import Finding
from site_kits.errors import MasterKeyError

LONGEST_LIFE = timedelta(days=90, hours=1)  # a certificate begins a little before it is issued


def second_factor(case: Case) -> Finding:  # noqa: ARG001 - one signature for all checks
    """The portal asks for one, and everybody of whom it asks has one; how many have not, never who."""
    without, people = people_with_a_password_alone()
    asked = is_asked_for()
    said = _("yes") if asked else _("no")
    return Finding(
        asked and people > 0 and without == 0, {"without": without, "people": people, "asked": said}
    )


def roles_disjoint(case: Case) -> Finding:  # noqa: ARG001
    """Nobody active holds two roles, and nobody is Django's superuser, who holds all."""
    active = User.objects.filter(is_active=True)
    roles = Count("groups", filter=Q(groups__name__in=Role.values))
    several = active.annotate(roles=roles).filter(Q(roles__gt=1) | Q(is_superuser=True)).count()
    return Finding(several == 0, {"people": active.count(), "several": several})


def ca_key_sealed(case: Case) -> Finding:  # noqa: ARG001
    """The row opens with the master key alone, and holds the key of the root certificate."""
    try:
        key, certificate = open_root(the_federation())
    except MasterKeyError:
        return Finding(holds=False, facts={})
    return Finding(key.public_key() == certificate.public_key(), {})


def certificates_in_life(case: Case) -> Finding:
    """Each site has a current certificate that counts at the pack's time and lasts 90 days at most."""
    over = [site.name for site in case.sites if not any(_counts(row.pem, case) for row in _current(site))]
    return Finding(
        bool(case.sites) and not over,
        {"sites": len(case.sites), "over": len(over), "names": ", ".join(over)},
    )


def pages_encrypted(case: Case) -> Finding:  # noqa: ARG001
    """Sign-in and pages; sites always talk TLS with the portal."""
    encrypted = settings.CONSILIUM_WEB_ORIGIN.startswith("https://") and settings.SESSION_COOKIE_SECURE
    return Finding(encrypted, {})


def sign_in_bounded(case: Case) -> Finding:  # noqa: ARG001
    bounded = bool(settings.AXES_ENABLED) and 0 < settings.AXES_FAILURE_LIMIT <= 10
    return Finding(bounded, {"tries": settings.AXES_FAILURE_LIMIT})


def _current(site: Site) -> list[Certificate]:
    return [row for row in site.certificates.all() if row.is_current]


def _counts(pem: str, case: Case) -> bool:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins <= case.as_of < ends and ends - begins <= LONGEST_LIFE
