"""Digests and figures of models; evidence packs. Shared parts lie in ``artifacts``, personal ones never."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from platform_web.accounts.scope import ScopedManager
from platform_web.federation.models import Site
from platform_web.training.models import Run, Study


class Arm(models.TextChoices):
    """The four models a site can choose from after a run."""

    LOCAL = "local", _("local only")
    GLOBAL = "global", _("global (FedAvg)")
    TUNED = "tuned", _("FedAvg + fine-tune")
    PERSONAL = "personal", _("personalised")


class ModelVersion(models.Model):
    """One arm of a finished run: the round it stands for and the digest of its shared part."""

    site_path: ClassVar[str] = "site_models__site"

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="versions")
    arm = models.CharField(max_length=10, choices=Arm.choices)
    round = models.PositiveIntegerField()
    shared_sha256 = models.CharField(max_length=64, blank=True, default="")
    label = models.CharField(max_length=120)
    created = models.DateTimeField(auto_now_add=True)

    objects = ScopedManager()

    class Meta:
        ordering = ["pk"]
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")
        constraints = [models.UniqueConstraint(fields=["run", "arm"], name="registry_version_once")]

    def __str__(self) -> str:
        return self.label


class SiteModel(models.Model):
    """What one site has of a version: the digest of its personal part, and figures its policy shares."""

    site_path: ClassVar[str] = "site"

    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="site_models")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="site_models")
    round = models.PositiveIntegerField()
    personal_sha256 = models.CharField(max_length=64)
    rows = models.JSONField(default=dict, blank=True)
    cells = models.JSONField(null=True, blank=True)
    difference = models.JSONField(null=True, blank=True)
    absent_labels = models.JSONField(default=list, blank=True)
    proposal = models.BooleanField(default=False)

    objects = ScopedManager()

    class Meta:
        ordering = ["site__name", "version"]
        verbose_name = _("model of a site")
        verbose_name_plural = _("models of sites")
        constraints = [models.UniqueConstraint(fields=["version", "site"], name="registry_site_model_once")]

    def __str__(self) -> str:
        return f"{self.version} @ {self.site.name}"


class Promotion(models.Model):
    """Says which model serves a site for a study, until it is withdrawn."""

    site_path: ClassVar[str] = "site"

    site_model = models.ForeignKey(SiteModel, on_delete=models.PROTECT, related_name="promotions")
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="+")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="promotions")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField(max_length=1000, blank=True, default="")
    created = models.DateTimeField(auto_now_add=True)
    withdrawn = models.DateTimeField(null=True, blank=True)

    objects = ScopedManager()

    class Meta:
        ordering = ["-created"]
        verbose_name = _("promotion")
        verbose_name_plural = _("promotions")
        constraints = [
            models.UniqueConstraint(
                fields=["study", "site"],
                condition=models.Q(withdrawn=None),
                name="registry_one_serving_per_study_and_site",
            )
        ]

    def __str__(self) -> str:
        return str(self.site_model)


class EvidencePack(models.Model):
    """A pack that was asked for: as of ``asked``; a worker makes it, and only its digests are kept here."""

    site_path: ClassVar[str] = "version__site_models__site"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="packs")
    language = models.CharField(max_length=7, choices=Site.Language.choices)
    asked = models.DateTimeField()
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    made = models.DateTimeField(null=True, blank=True)
    zip_sha256 = models.CharField(max_length=64, blank=True, default="")
    manifest_sha256 = models.CharField(max_length=64, blank=True, default="")
    bytes = models.PositiveBigIntegerField(default=0)
    failing = models.JSONField(default=list, blank=True)
    error = models.TextField(blank=True, default="")

    objects = ScopedManager()

    class Meta:
        ordering = ["-asked"]
        verbose_name = _("evidence pack")
        verbose_name_plural = _("evidence packs")

    def __str__(self) -> str:
        return f"{self.version} {self.asked:%Y-%m-%d %H:%M}"
