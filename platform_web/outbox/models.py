"""Promised work: one row per promise, written in the transaction that makes it necessary."""

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _


class Task(models.Model):
    """A promise. ``lease_until`` guards a worker's claim; a crashed worker's lease runs out."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100)
    queue = models.CharField(_("queue"), max_length=40)
    arguments = models.JSONField(_("arguments"), default=dict)
    created = models.DateTimeField(_("created"), auto_now_add=True)
    not_before = models.DateTimeField(_("not before"))
    rung_at = models.DateTimeField(_("rung at"), null=True)
    lease_until = models.DateTimeField(_("lease until"), null=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    finished = models.DateTimeField(_("finished"), null=True)
    failed = models.DateTimeField(_("failed"), null=True)
    last_error = models.TextField(_("last error"), blank=True)

    class Meta:
        verbose_name = _("promised task")
        verbose_name_plural = _("promised tasks")
        ordering = ["-created"]
        indexes = [
            models.Index(
                fields=["not_before"],
                name="outbox_open",
                condition=models.Q(finished__isnull=True, failed__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.id}"
