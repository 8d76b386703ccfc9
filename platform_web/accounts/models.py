"""Who belongs to which site, and by what else than a password one signs in. People are Django's users."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django_otp.models import Device, ThrottlingMixin


class Role(models.TextChoices):
    """The five roles. A person has exactly one: nobody administers, uses and audits at once."""

    ADMINISTRATOR = "administrator", _("administrator")
    SITE_OPERATOR = "site_operator", _("site operator")
    DATA_SCIENTIST = "data_scientist", _("data scientist")
    CLINICIAN = "clinician", _("clinician")
    AUDITOR = "auditor", _("auditor")


SITE_ROLES = frozenset({Role.SITE_OPERATOR, Role.CLINICIAN})  # see only the sites they belong to


class Membership(models.Model):
    """A person belongs to a site."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    site = models.ForeignKey("federation.Site", on_delete=models.CASCADE, related_name="memberships")
    created = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [
            models.UniqueConstraint(fields=["user", "site"], name="one_membership_per_user_and_site")
        ]

    def __str__(self) -> str:
        return f"{self.user} – {self.site}"


class SecondFactor(ThrottlingMixin, Device):
    """The authenticator app of a person. It is there exactly when the person has enrolled one.

    The secret is sealed with the master key. ``last_step``: the newest 30-second step whose code was used,
    none before it is taken again. Failures are counted here, whatever address they come from.
    """

    name = None  # django-otp names devices, since there a person has several
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="second_factor"
    )
    secret_sealed = models.BinaryField()
    last_step = models.BigIntegerField()
    enrolled = models.DateTimeField(_("enrolled"))

    class Meta:
        verbose_name = _("second factor")
        verbose_name_plural = _("second factors")

    def __str__(self) -> str:
        return f"{self.user}"

    def get_throttle_factor(self) -> int:
        """Seconds after the first wrong code; they double with each further one (django-otp)."""
        return 1


class RecoveryCode(models.Model):
    """One code that stands in for the app once. The row goes with its use; only a keyed digest is stored."""

    factor = models.ForeignKey(SecondFactor, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        verbose_name = _("recovery code")
        verbose_name_plural = _("recovery codes")

    def __str__(self) -> str:
        return f"{self.factor}"
