"""Errors of people and roles."""

from platform_web.outbox.errors import PortalError


class AccountError(PortalError):
    """A person, role or membership is not possible as asked."""
