"""Errors of the clinic page. Each message is a sentence for a person and says what to do next."""

from platform_web.outbox.errors import PortalError


class ClinicError(PortalError):
    """The model of the institution cannot be asked now."""
