"""How a site gets in and is kept out: kits, certificates, revocations."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from platform_web.accounts.scope import ScopedManager
from platform_web.federation.models.sites import Site


class Kit(models.Model):
    """One invitation and the kit that goes with it.

    The link is the site's credential for one certificate, together with the PIN told by another channel.
    Of the link only the SHA-256 is kept, of the PIN a salted slow hash. The kit itself holds no secret.
    """

    site_path: ClassVar[str] = "site"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="kits")
    link_sha256 = models.CharField(max_length=64, unique=True)
    link_expires = models.DateTimeField(_("link expires"))
    pin_hash = models.CharField(max_length=128, blank=True)
    pin_failures = models.PositiveSmallIntegerField(_("wrong PINs"), default=0)
    locked_at = models.DateTimeField(_("locked at"), null=True, blank=True)
    built_at = models.DateTimeField(_("built at"), null=True)
    fetched_at = models.DateTimeField(_("fetched at"), null=True)
    enrolled_at = models.DateTimeField(_("used at"), null=True)
    revoked_at = models.DateTimeField(_("replaced at"), null=True)
    zip_sha256 = models.CharField(_("SHA-256 of the file"), max_length=64, blank=True)
    error = models.TextField(_("error"), blank=True)
    issued_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created = models.DateTimeField(_("created"), auto_now_add=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("kit")
        verbose_name_plural = _("kits")
        ordering = ["-created"]

    def __str__(self) -> str:
        return f"{self.site.name} {self.created:%Y-%m-%d %H:%M}"


class Certificate(models.Model):
    """A certificate issued to a site for the key it made itself."""

    site_path: ClassVar[str] = "site"

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="certificates")
    kit = models.ForeignKey(Kit, null=True, on_delete=models.SET_NULL, related_name="certificates")
    serial = models.CharField(_("serial number"), max_length=40, unique=True)  # hex, lower case
    fingerprint_sha256 = models.CharField(_("fingerprint"), max_length=64)
    pem = models.TextField(_("certificate"))
    not_before = models.DateTimeField(_("not before"))
    not_after = models.DateTimeField(_("not after"))
    renewal_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="renewals")
    replaced_at = models.DateTimeField(_("replaced at"), null=True, blank=True)  # the site uses a newer one
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)
    created = models.DateTimeField(_("created"), auto_now_add=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("certificate")
        verbose_name_plural = _("certificates")
        ordering = ["-created"]

    def __str__(self) -> str:
        return f"{self.site.name} {self.serial}"

    @property
    def is_current(self) -> bool:
        """Neither revoked nor replaced; it may have expired."""
        return self.revoked_at is None and self.replaced_at is None


class Revocation(models.Model):
    """One administrator's wish to revoke a site's certificates; it takes a second one to make it so."""

    site_path: ClassVar[str] = "site"

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="revocations")
    reason = models.CharField(_("reason"), max_length=500)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(_("requested at"), auto_now_add=True)
    closed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    confirmed_at = models.DateTimeField(_("confirmed at"), null=True, blank=True)
    withdrawn_at = models.DateTimeField(_("withdrawn at"), null=True, blank=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("revocation")
        verbose_name_plural = _("revocations")
        ordering = ["-requested_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["site"],
                condition=models.Q(confirmed_at=None, withdrawn_at=None),
                name="one_open_revocation_per_site",
            )
        ]

    def __str__(self) -> str:
        return f"{self.site.name}: {self.reason[:40]}"
