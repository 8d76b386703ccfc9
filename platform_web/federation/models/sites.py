"""Sites, what they say of their data, and the nonces their agents have used."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from fl_jobs.packaging.spec import NAME_PATTERN
from platform_web.accounts.scope import ScopedManager

FLARE_FRESH = timedelta(seconds=15)
HEARTBEAT_FRESH = timedelta(seconds=30)
TWIN_SHOWN = timedelta(minutes=10)


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
