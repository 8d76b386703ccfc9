"""Errors of the audit log."""

from django.db import OperationalError

from platform_web.outbox.errors import PortalError


class AuditError(PortalError):
    """An entry cannot be written; what it was to witness must not happen."""


class UnfitError(PortalError):
    """What a site brought to the log does not fit it; nothing was kept."""


class UnwitnessedError(PortalError):
    """Too few sites vouch for the log; what rests on it has to wait."""


class CommitUnknownError(OperationalError):
    """The database went away between COMMIT and its answer: effect and entry are both there, or neither."""


class RedactionError(PortalError):
    """A body cannot be erased as asked; nothing was changed."""
