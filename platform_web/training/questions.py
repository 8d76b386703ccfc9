"""A site's questions on a run it is asked about, and the answers. What was typed lies in the audit log alone.

The rows hold no word of it: text and answer are bodies of the log's entries, encrypted, and once a body is
erased nothing of it is left here.
"""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from platform_web.accounts.scope import ScopedManager
from platform_web.audit.bodies import body_in
from platform_web.federation.models import Site


class RunQuestion(models.Model):
    """One question; its id was made at the site, so that sending it again asks nothing new."""

    site_path: ClassVar[str] = "site"
    owner_path: ClassVar[str] = "run__created_by"

    id = models.UUIDField(primary_key=True, editable=False)
    run = models.ForeignKey("training.Run", on_delete=models.PROTECT, related_name="questions")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    asked = models.DateTimeField(auto_now_add=True)
    asked_entry = models.UUIDField()
    answered = models.DateTimeField(null=True, blank=True)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    answered_entry = models.UUIDField(null=True, blank=True)

    objects = ScopedManager()

    class Meta:
        ordering = ["asked"]
        verbose_name = _("question of a site")
        verbose_name_plural = _("questions of sites")

    def __str__(self) -> str:
        return f"{self.run_id} · {self.site} · {str(self.pk)[:8]}"

    @cached_property
    def text(self) -> str:
        """What the site asked; empty once it was erased from the log."""
        return str(body_in(self.asked_entry).get("text", ""))

    @cached_property
    def answer(self) -> str:
        """What was answered; empty while nothing was, and once it was erased from the log."""
        return str(body_in(self.answered_entry).get("text", ""))
