"""Rows of studies, runs and rounds. The journal of a run is the truth; these rows are its copy."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError

from fl_jobs.packaging.spec import (
    COHORT_MIN,
    AnalysisSpec,
    PrivacySpec,
    RunSpec,
    TaskSpec,
    canonical_json,
)
from platform_web.accounts.scope import ScopedManager
from platform_web.federation.models import Dataset, Site
from platform_web.training.errors import RunStateError
from platform_web.training.questions import RunQuestion as RunQuestion


class Study(models.Model):
    """A purpose, the data it may use and the task: what every run of it shares."""

    site_path: ClassVar[str] = "runs__sites"

    slug = models.SlugField(max_length=63, unique=True)
    title = models.CharField(max_length=200)
    purpose = models.TextField(max_length=2000)
    dataset = models.CharField(max_length=63)
    task = models.JSONField()
    teaching = models.BooleanField(default=False)
    policy = models.TextField(max_length=20_000, blank=True, default="")  # TOML; tightens the sites' own
    created = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")

    objects = ScopedManager()

    class Meta:
        ordering = ["-created"]
        verbose_name = _("study")
        verbose_name_plural = _("studies")

    def __str__(self) -> str:
        return self.title

    @cached_property
    def holds_synthetic_data(self) -> bool:
        """Whether any site says that its data of this study are no real person's."""
        return Dataset.objects.filter(name=self.dataset, synthetic=True).exists()

    def task_spec(self) -> TaskSpec:
        """The task as the run specification holds it."""
        return TaskSpec.model_validate_json(canonical_json(self.task))


class Run(models.Model):
    """One execution of a study. Its specification and digest are fixed once it has been prepared."""

    class State(models.TextChoices):
        PREPARING = "PREPARING", _("Preparing")
        APPROVING = "APPROVING", _("Waiting for approval")
        SUBMITTED = "SUBMITTED", _("Waiting for the sites")
        RUNNING = "RUNNING", _("Training")
        RESUMING = "RESUMING", _("Waiting to go on")
        STOPPING = "STOPPING", _("Stopping")
        COLLECTING = "COLLECTING", _("Collecting results")
        COMPLETED = "COMPLETED", _("Completed")
        FAILED = "FAILED", _("Failed")
        STOPPED = "STOPPED", _("Stopped")

    FOLLOWED = (State.APPROVING, State.SUBMITTED, State.RUNNING, State.RESUMING, State.STOPPING)
    FINAL = (State.COMPLETED, State.FAILED, State.STOPPED)
    site_path: ClassVar[str] = "sites"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="runs")
    algorithm = models.CharField(max_length=63)
    hyper_parameters = models.JSONField(default=dict)
    model = models.CharField(max_length=63)
    model_arguments = models.JSONField(default=dict, blank=True)
    rounds = models.PositiveIntegerField()
    seed = models.PositiveIntegerField()
    min_sites = models.PositiveIntegerField()
    server_sees_updates = models.BooleanField(default=False)
    privacy = models.JSONField(null=True, blank=True)  # a PrivacySpec; None: no differential privacy
    analysis = models.JSONField(null=True, blank=True)  # an AnalysisSpec; None: the usual one
    sites = models.ManyToManyField(Site, related_name="runs")
    spec = models.JSONField(null=True, blank=True)
    run_digest = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(max_length=12, choices=State.choices, default=State.PREPARING)
    error = models.TextField(blank=True, default="")
    nvflare_job_id = models.CharField(max_length=64, blank=True, default="")
    epoch = models.PositiveIntegerField(default=1)
    journal_position = models.PositiveIntegerField(default=0)
    journal_epoch = models.PositiveIntegerField(
        default=0
    )  # of the last line; a lower one is a stale writer's
    last_heard = models.DateTimeField(null=True, blank=True)  # when this epoch's job last answered
    silent_since = models.DateTimeField(null=True, blank=True)
    interruption = models.JSONField(null=True, blank=True)  # {"code", "error", "missing"} of this epoch
    interrupted_at = models.DateTimeField(null=True, blank=True)
    lost = models.JSONField(default=dict, blank=True)  # site without a job process → since when, this epoch
    finish = models.JSONField(null=True, blank=True)
    next_poll_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    ended = models.DateTimeField(null=True, blank=True)

    objects = ScopedManager()

    class Meta:
        ordering = ["-created"]
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        indexes = [
            models.Index(
                fields=["next_poll_at"],
                name="training_run_due",
                condition=models.Q(state__in=["APPROVING", "SUBMITTED", "RUNNING", "RESUMING", "STOPPING"]),
            )
        ]

    def __str__(self) -> str:
        return f"{self.study.slug} {str(self.pk)[:8]}"

    @property
    def is_final(self) -> bool:
        return self.state in self.FINAL

    @property
    def fewest_sites(self) -> int:
        """How many sites must be there for the run to go on."""
        return self.min_sites if self.server_sees_updates else max(self.min_sites, COHORT_MIN)

    def privacy_spec(self) -> PrivacySpec | None:
        """The differential privacy asked for; None without."""
        return None if self.privacy is None else PrivacySpec.model_validate_json(canonical_json(self.privacy))

    def analysis_spec(self) -> AnalysisSpec:
        """What the run will say about benefit."""
        asked = self.analysis
        return AnalysisSpec() if asked is None else AnalysisSpec.model_validate_json(canonical_json(asked))

    def working_sites(self) -> models.QuerySet[Site]:
        """The sites that approved this run and are not suspended, revoked or gone: only they get its jobs."""
        approved = RunApproval.objects.filter(run=self, state=RunApproval.State.APPROVED)
        active = self.sites.exclude(status__in=Site.BARRED)
        return active.filter(pk__in=approved.values("site_id")).order_by("name")

    def next_round(self) -> int:
        """The round after the last one committed in our rows; the server's journal may know more."""
        last: int | None = self.committed_rounds.aggregate(last=models.Max("number"))["last"]
        return (last or 0) + 1

    def run_spec(self) -> RunSpec:
        """The specification the sites approve. Raises RunStateError when row and digest disagree."""
        if self.spec is None:
            raise RunStateError(_("This run has not been prepared yet; wait until it has a digest."))
        changed = _("The stored specification does not match the run's digest. Start the run again.")
        try:
            spec = RunSpec.model_validate_json(canonical_json(self.spec))
        except ValidationError as error:  # written by another version
            raise RunStateError(changed) from error
        if spec.digest() != self.run_digest:
            raise RunStateError(changed)
        return spec


class RunApproval(models.Model):
    """A site's word on a run: what the portal shows, and the signed statement that proves it."""

    class State(models.TextChoices):
        WAITING = "WAITING", _("not decided yet")
        APPROVED = "APPROVED", _("approved")
        REFUSED = "REFUSED", _("refused")

    class By(models.TextChoices):
        RULE = "rule", _("by the site's policy")
        PERSON = "person", _("by a person at the site")

    site_path: ClassVar[str] = "site"

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="approvals")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    by = models.CharField(max_length=6, choices=By.choices, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    policy_digest = models.CharField(max_length=64, blank=True, default="")
    decided_at = models.CharField(max_length=40, blank=True, default="")  # by the site's clock, as signed
    received = models.DateTimeField(null=True, blank=True)
    statement = models.TextField(blank=True, default="")  # the evidence: signed text, signature, whose key
    signature = models.TextField(blank=True, default="")
    serial = models.CharField(max_length=40, blank=True, default="")

    objects = ScopedManager()

    class Meta:
        ordering = ["site__name"]
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        constraints = [models.UniqueConstraint(fields=["run", "site"], name="training_approval_once")]

    def __str__(self) -> str:
        return f"{self.run} · {self.site}"


class RunJob(models.Model):
    """One NVFlare job of a run. ``epoch`` counts them; what is submitted is fixed here before it is sent.

    A second try with the same token must hand NVFlare the same job, hence start round and sites are columns.
    """

    site_path: ClassVar[str] = "run__sites"

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="jobs")
    epoch = models.PositiveIntegerField()
    start_round = models.PositiveIntegerField(default=1)
    sites = models.JSONField(default=list)
    job_id = models.CharField(max_length=64, blank=True, default="")
    handed_over = models.DateTimeField(null=True, blank=True)  # from here on NVFlare may hold the job
    submitted = models.DateTimeField(null=True, blank=True)
    ended = models.DateTimeField(null=True, blank=True)
    code = models.CharField(max_length=40, blank=True, default="")
    error = models.TextField(blank=True, default="")
    roster = models.JSONField(
        null=True, blank=True
    )  # of a masked run: who took part, whose keys were verified
    rejoin = models.JSONField(null=True, blank=True)  # sites whose return was the reason to end this job

    objects = ScopedManager()

    class Meta:
        ordering = ["epoch"]
        verbose_name = _("NVFlare job")
        verbose_name_plural = _("NVFlare jobs")
        constraints = [models.UniqueConstraint(fields=["run", "epoch"], name="training_job_once")]

    def __str__(self) -> str:
        return f"{self.run} · {self.epoch}"


class Round(models.Model):
    """One committed round: digests of the aggregates and what the cohort measured."""

    site_path: ClassVar[str] = "site_rounds__site"

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="committed_rounds")
    number = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField(default=1)
    aggregate_sha256 = models.JSONField(default=dict)
    cohort = models.JSONField(default=dict)
    masking = models.JSONField(null=True, blank=True)  # of a masked round: who was in the sum, ring, clipping
    committed = models.DateTimeField(auto_now_add=True)

    objects = ScopedManager()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="training_round_once")]

    def __str__(self) -> str:
        return f"{self.run} · {self.number}"


class SiteRound(models.Model):
    """A site took part in a round. ``metrics`` is empty unless the site's policy shares them."""

    site_path: ClassVar[str] = "site"

    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="site_rounds")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    metrics = models.JSONField(default=dict, blank=True)

    objects = ScopedManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["round", "site"], name="training_site_round_once")]

    def __str__(self) -> str:
        return f"{self.round} · {self.site}"
