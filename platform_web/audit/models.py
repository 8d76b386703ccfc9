"""The audit log. Rows are only ever inserted; triggers of the database refuse everything else."""

from django.db import models
from django.db.models.functions import Length
from django.db.models.lookups import LessThanOrEqual
from django.utils.translation import gettext_lazy as _

from compliance.canonical import MAX_BYTES


class AuditEvent(models.Model):
    """One entry. ``leaf`` holds the canonical bytes that count; the other columns are derived from it."""

    number = models.BigAutoField(primary_key=True, db_column="pk")
    event_id = models.UUIDField(_("id"), unique=True, db_column="id")
    leaf = models.BinaryField(_("canonical bytes"), max_length=MAX_BYTES)
    leaf_hash = models.BinaryField(_("leaf hash"), max_length=32)
    ts = models.DateTimeField(_("time"), db_index=True)
    org = models.CharField(_("organisation"), max_length=200, blank=True)
    site = models.CharField(_("site"), max_length=63, blank=True, db_index=True)
    act = models.CharField(_("act"), max_length=64, db_index=True)
    actor = models.CharField(_("actor"), max_length=200)
    obj = models.CharField(_("object"), max_length=400, blank=True)
    job = models.CharField(_("run"), max_length=64, blank=True, db_index=True)

    class Meta:
        db_table = "audit_event"
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        ordering = ["-number"]
        constraints = [
            models.CheckConstraint(
                condition=LessThanOrEqual(Length("leaf"), MAX_BYTES), name="audit_leaf_at_most_8192_bytes"
            )
        ]

    def __str__(self) -> str:
        return f"{self.act} {self.event_id}"
