"""The federation itself: its CA, its NVFlare users, its ticket keys. Private keys are sealed."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Federation(models.Model):
    """The one federation of this portal: its CA and its addresses. Keys are sealed with the master key."""

    name = models.CharField(_("name"), max_length=63, unique=True)
    server_name = models.CharField(_("server name"), max_length=253)
    flare_host = models.CharField(_("NVFlare host"), max_length=253)
    flare_port = models.PositiveIntegerField(_("NVFlare port"))
    agents_url = models.CharField(_("address of the agents' door"), max_length=300)
    web_origin = models.CharField(_("address of the portal"), max_length=300)
    root_certificate_pem = models.TextField(_("root certificate"))
    root_key_sealed = models.BinaryField()
    key_check = models.BinaryField()
    created = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("federation")
        verbose_name_plural = _("federations")

    def __str__(self) -> str:
        return self.name


class ServiceIdentity(models.Model):
    """``ops`` (project_admin) or ``runs`` (lead): the only two NVFlare users there are."""

    name = models.CharField(_("name"), max_length=63, unique=True)
    role = models.CharField(_("role"), max_length=40)
    certificate_pem = models.TextField(_("certificate"))
    key_sealed = models.BinaryField()
    created = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("service identity")
        verbose_name_plural = _("service identities")

    def __str__(self) -> str:
        return self.name


class TicketKey(models.Model):
    """The Ed25519 key that signs clinic tickets; sites hold the public half."""

    kid = models.CharField(_("key id"), max_length=32, unique=True)
    public_key = models.CharField(_("public key"), max_length=44)
    private_key_sealed = models.BinaryField()
    created = models.DateTimeField(_("created"), auto_now_add=True)
    retired_at = models.DateTimeField(_("retired at"), null=True, blank=True)

    class Meta:
        verbose_name = _("ticket key")
        verbose_name_plural = _("ticket keys")

    def __str__(self) -> str:
        return self.kid
