"""Sites and what they hold: kits, certificates, data sets; and the federation's own identities."""

import uuid
from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from fl_jobs.packaging.spec import NAME_PATTERN
from platform_web.accounts.scope import ScopedManager

FLARE_FRESH = timedelta(seconds=15)
HEARTBEAT_FRESH = timedelta(seconds=30)
TWIN_SHOWN = timedelta(minutes=10)


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


class Site(models.Model):
    """A hospital or province taking part."""

    class Status(models.TextChoices):
        INVITED = "invited", _("invited")
        ENROLLED = "enrolled", _("enrolled")
        SUSPENDED = "suspended", _("suspended")
        REVOKED = "revoked", _("revoked")
        LEFT = "left", _("left")

    BARRED = (Status.SUSPENDED, Status.REVOKED, Status.LEFT)  # none of its certificates counts

    class Language(models.TextChoices):
        CHINESE = "zh-hans", "中文"
        ENGLISH = "en", "English"

    site_path: ClassVar[str] = "pk"

    name = models.CharField(
        _("name"), max_length=63, unique=True, validators=[RegexValidator(NAME_PATTERN.replace("$", r"\Z"))]
    )
    title = models.CharField(_("title"), max_length=200)
    organisation = models.CharField(_("organisation"), max_length=64)  # O of the certificate: 64 (RFC 5280)
    zone = models.CharField(_("zone"), max_length=64, blank=True)
    contact = models.EmailField(_("contact"), blank=True)  # a personal datum: for administrators only
    language = models.CharField(
        _("language"), max_length=7, choices=Language.choices, default=Language.ENGLISH
    )
    status = models.CharField(_("status"), max_length=12, choices=Status.choices, default=Status.INVITED)
    flare_seen_at = models.DateTimeField(_("seen by NVFlare"), null=True, blank=True)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True, blank=True)
    heartbeat = models.JSONField(_("heartbeat"), default=dict, blank=True)
    inference_url = models.CharField(_("inference address"), max_length=300, blank=True)
    # which start of the agent speaks for the site; see services.agents.admit_agent
    agent_instance = models.CharField(max_length=32, blank=True)
    agent_displaced = models.CharField(max_length=32, blank=True)
    agent_refused = models.CharField(max_length=32, blank=True)
    twin_seen_at = models.DateTimeField(_("second agent seen"), null=True, blank=True)
    created = models.DateTimeField(_("created"), auto_now_add=True)

    objects = ScopedManager()

    class Meta:
        verbose_name = _("site")
        verbose_name_plural = _("sites")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.title or self.name

    def is_seen_by_flare(self, now: datetime) -> bool:
        return self.flare_seen_at is not None and now - self.flare_seen_at < FLARE_FRESH

    def has_heartbeat(self, now: datetime) -> bool:
        return self.heartbeat_at is not None and now - self.heartbeat_at < HEARTBEAT_FRESH

    def is_online(self, now: datetime) -> bool:
        """Green: registered with NVFlare within 15 s and a heartbeat within 30 s."""
        return self.status == self.Status.ENROLLED and self.is_seen_by_flare(now) and self.has_heartbeat(now)

    def barred(self, now: datetime) -> str:
        """Why no certificate of the site counts, in one sentence; empty when one does or none was issued."""
        if self.status == self.Status.SUSPENDED:
            return _t(
                "The site is suspended: its certificate does not count until an administrator resumes it."
            )
        if self.status == self.Status.REVOKED:
            return _t("The site's certificates are REVOKED. To take part again it needs a new kit.")
        if self.status == self.Status.LEFT:
            return _t("The site has left the federation. To come back it needs a new kit.")
        ends = [row.not_after for row in self.certificates.all() if row.is_current]
        if self.status == self.Status.ENROLLED and ends and max(ends) <= now:
            return _t(
                "The site's certificate EXPIRED on %(day)s. Make a new kit; its operator unpacks it there."
            ) % {"day": max(ends).date().isoformat()}
        return ""

    def has_twin(self, now: datetime) -> bool:
        """Whether a second agent with this site's certificate was heard in the last ten minutes."""
        return self.twin_seen_at is not None and now - self.twin_seen_at < TWIN_SHOWN

    def missing(self, now: datetime) -> str:
        """What keeps the site from being green, in words; empty when it is."""
        if sentence := self.barred(now):
            return sentence
        if self.status == self.Status.INVITED:
            return _t("The kit has not been started at the site yet.")
        if not self.has_heartbeat(now) and not self.is_seen_by_flare(now):
            return _t(
                "No heartbeat from the site's agent and not registered with NVFlare: is start.sh running?"
            )
        if not self.has_heartbeat(now):
            return _t("No heartbeat from the site's agent for 30 seconds.")
        if not self.is_seen_by_flare(now):
            return _t("Not registered with the NVFlare server: is its port reachable from the site?")
        return ""


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


class Dataset(models.Model):
    """What a site says about a data set its operator registered: counts only."""

    site_path: ClassVar[str] = "site"

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(_("name"), max_length=63)
    kind = models.CharField(_("kind"), max_length=20)
    digest = models.CharField(_("digest"), max_length=64)
    labels = models.JSONField(_("labels"), default=list)
    rows = models.PositiveIntegerField(_("rows"))
    parts = models.JSONField(_("parts"), default=dict)
    label_counts = models.JSONField(_("rows per label"), default=dict)
    synthetic = models.BooleanField(_("synthetic"), default=False)
    reported_at = models.DateTimeField(_("reported at"))

    objects = ScopedManager()

    class Meta:
        verbose_name = _("data set")
        verbose_name_plural = _("data sets")
        ordering = ["site__name", "name"]
        constraints = [models.UniqueConstraint(fields=["site", "name"], name="one_dataset_per_site_and_name")]

    def __str__(self) -> str:
        return f"{self.site.name}: {self.name}"


class AgentNonce(models.Model):
    """A nonce an agent has used. The unique pair makes a replayed request fail; old rows are pruned."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="+")
    nonce = models.CharField(max_length=32)
    used_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["site", "nonce"], name="one_use_per_nonce")]
