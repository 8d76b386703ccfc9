"""Errors of the audit log."""

from django.db import OperationalError
from django.utils.translation import gettext_lazy as _

from platform_web.outbox.errors import PortalError


class AuditError(PortalError):
    """An entry cannot be written; what it was to witness must not happen."""


class CommitUnknownError(OperationalError):
    """The database went away between COMMIT and its answer: effect and entry are both there, or neither is."""
