"""The base of the portal's errors. Each message is a sentence for a person and says what to do next."""


class PortalError(Exception):
    """Base of all errors the portal raises on purpose. A task that raises one has failed."""


class TransientError(PortalError):
    """The world is not ready (a server is down, a file is not there yet): the task is tried again later."""


class OutboxError(PortalError):
    """Work was promised in a way that cannot be kept."""
