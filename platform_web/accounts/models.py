"""Who belongs to which site. People are Django's users; a role is a group."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


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
