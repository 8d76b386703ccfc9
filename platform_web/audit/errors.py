"""Errors of the audit log."""

from platform_web.outbox.errors import PortalError


class AuditError(PortalError):
    """An entry cannot be written; what it was to witness must not happen."""
