"""Errors of the registry. Each message is a sentence for a person and says what to do next."""

from platform_web.outbox.errors import PortalError


class RegistryError(PortalError):
    """Base of all errors this app raises on purpose."""


class CollectionError(RegistryError):
    """What a run left behind is incomplete or contradicts itself."""


class MissingPartError(CollectionError):
    """A file that the journal names is not among the results; another job can hand it over."""


class PromotionError(RegistryError):
    """A site's model cannot be promoted as asked; nothing was changed."""


class EvidenceError(RegistryError):
    """An evidence pack cannot be made or handed over now."""
